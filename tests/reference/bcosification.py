"""Checkpoints of B-cosification (arXiv 2411.00715): how their tensors are called, and what they compute, in plain float64.

Written from a description of the method and of the names in its files; the numbers are random. Normalisation inside the network,
filters as they are, ReLU and GELU kept, average pools, uncentred norms without bias, the classifier before the mean, -ln 999.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.networks import sines

__all__ = [
    "BIAS",
    "State",
    "densenet",
    "densenet_layout",
    "lightning",
    "resnet",
    "resnet_layout",
    "transformer",
    "transformer_layout",
]

State = dict[str, Tensor]
BIAS = -math.log(999)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# -- layouts: random numbers under the names of the files ---------------------------------------------------------------------


class _Layout:
    """Names and random tensors, in the order of a file."""

    def __init__(self, seed: int = 0) -> None:
        self.state: State = {}
        self.random = torch.Generator().manual_seed(seed)

    def filters(self, name: str, *shape: int) -> None:
        """Of a B-cos layer: `|w·x| (w·x) / ‖x‖` of them is about as large as x."""
        self.state[f"{name}.linear.weight"] = torch.randn(shape, generator=self.random) * (1.6 * math.prod(shape[1:])) ** -0.25

    def norm(self, name: str, channels: int, *, batch: bool = True) -> None:
        """A norm without bias; the mean of a batch norm is kept there, and never used."""
        self.state[f"{name}.weight"] = torch.rand(channels, generator=self.random) + 0.5
        if batch:
            self.state[f"{name}.running_mean"] = torch.randn(channels, generator=self.random)
            self.state[f"{name}.running_var"] = torch.rand(channels, generator=self.random) + 0.5
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(450_450)

    def both(self, conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        self.filters(conv, outputs, inputs, kernel, kernel)
        self.norm(norm, outputs)


def resnet_layout(depths: Sequence[int], widths: Sequence[int], *, bottleneck: bool, classes: int, stem: int) -> State:
    """A ResNet of torchvision, converted."""
    made, channels, expansion = _Layout(), stem, 4 if bottleneck else 1
    made.both("conv1", "bn1", stem, 6, 7)
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        for j in range(depth):
            at, outputs = f"layer{i}.{j}", width * expansion
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            sides = [channels, *[width] * (len(kernels) - 1), outputs]
            for k, kernel in enumerate(kernels, 1):
                made.both(f"{at}.conv{k}", f"{at}.bn{k}", sides[k], sides[k - 1], kernel)
            if (j == 0 and i > 1) or channels != outputs:
                made.both(f"{at}.downsample.0", f"{at}.downsample.1", outputs, channels, 1)
            channels = outputs
    made.filters("fc", classes, channels, 1, 1)
    return made.state


def densenet_layout(depths: Sequence[int], growth: int, stem: int, classes: int) -> State:
    """A DenseNet of torchvision, converted: the parts of its sequences have numbers."""
    made, channels, place = _Layout(), stem, 4
    made.both("features.0", "features.1", stem, 6, 7)
    for i, depth in enumerate(depths, 1):
        for j in range(1, depth + 1):
            at = f"features.{place}.denselayer{j}"
            made.norm(f"{at}.norm1", channels)
            made.both(f"{at}.conv1", f"{at}.norm2", 4 * growth, channels, 1)
            made.filters(f"{at}.conv2", growth, 4 * growth, 3, 3)
            channels += growth
        if i < len(depths):
            made.norm(f"features.{place + 1}.0", channels)
            made.filters(f"features.{place + 1}.2", channels // 2, channels, 1, 1)
            channels //= 2
        place += 2
    made.norm(f"features.{place - 1}", channels)
    made.filters("classifier", classes, channels, 1, 1)
    return made.state


def transformer_layout(dim: int, heads: int, mlp: int, depth: int, patch: int, stem: Sequence[int], classes: int) -> State:
    """A simple transformer, or one on a convolutional stem; 64 channels a head. Queries, keys and values are no B-cos layer."""
    made, channels = _Layout(), 6
    for i, width in enumerate(stem):
        made.filters(f"to_patch_embedding.conv_stem.{3 * i}", width, channels, 3, 3)
        made.norm(f"to_patch_embedding.conv_stem.{3 * i + 1}", width, batch=False)
        channels = width
    made.filters("to_patch_embedding.linear", dim, patch * patch * channels)
    for i in range(depth):
        at = f"transformer.encoder_{i}"
        made.norm(f"{at}.attn.norm", dim, batch=False)
        made.state[f"{at}.attn.to_qkv.weight"] = torch.randn(3 * heads * 64, dim, generator=made.random) * dim**-0.5
        made.filters(f"{at}.attn.to_out", dim, heads * 64)
        made.norm(f"{at}.ff.net.norm", dim, batch=False)
        made.filters(f"{at}.ff.net.linear1", mlp, dim)
        made.filters(f"{at}.ff.net.linear2", dim, mlp)
    made.norm("linear_head.norm", dim, batch=False)
    made.filters("linear_head.linear", classes, dim)
    return made.state


def lightning(state: State) -> dict[str, object]:
    """A checkpoint around the tensors: the network stands in a wrapper, and that in a module of the trainer."""
    return {
        "epoch": 89, "global_step": 450_450, "pytorch-lightning_version": "2.0.0",
        "state_dict": {f"model.model.{name}": value for name, value in state.items()},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}],
        "hyper_parameters": {"dataset": "ImageNet", "experiment_name": "resnet_18"},
    }  # fmt: skip


# -- what they compute ------------------------------------------------------------------------------------------------------


def _start(state: State, x: Tensor) -> tuple[State, Tensor]:
    """Float64, and pictures [x, 1 - x] normalised channel by channel."""
    mean = torch.tensor([*_MEAN, *(1 - m for m in _MEAN)], dtype=torch.float64).reshape(1, 6, 1, 1)
    std = torch.tensor([*_STD, *_STD], dtype=torch.float64).reshape(1, 6, 1, 1)
    return {name: value.double() for name, value in state.items()}, (x.double() - mean) / std


def _conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    w = state[f"{name}.linear.weight"]
    squares = F.conv2d(x.square().sum(1, keepdim=True), torch.ones_like(w[:1, :1]), None, stride, padding)
    y = F.conv2d(x, w, None, stride, padding)
    return y.abs() / (squares + 1e-6).sqrt() * y


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    y = x @ state[f"{name}.linear.weight"].t()
    return y.abs() / (x.square().sum(-1, keepdim=True).sqrt() + 1e-12) * y


def _batch(state: State, name: str, x: Tensor) -> Tensor:
    factor = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
    return x * factor.reshape(1, -1, 1, 1)


def _spread(state: State, name: str, x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A norm over `dims`; the weight is that of channels, second over pictures and last over tokens."""
    weight = state[f"{name}.weight"].reshape((1, -1, 1, 1) if len(dims) > 1 else (-1,))
    return (x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=0, keepdim=True) + 1e-5).sqrt() * weight


def resnet(state: State, x: Tensor) -> Tensor:
    """Logits (N, classes) of encoded pictures (N, 6, H, W)."""
    s, x = _start(state, x)
    x = F.avg_pool2d(_batch(s, "bn1", _conv(s, "conv1", x, 2, 3)).relu(), 3, 2, 1)
    blocks = sorted({(int(i[5:]), int(j)) for i, j, *_ in (name.split(".") for name in s if name.startswith("layer"))})
    for i, j in blocks:
        at, stride, y = f"layer{i}.{j}", 2 if j == 0 and i > 1 else 1, x
        count = 3 if f"{at}.bn3.weight" in s else 2
        for k in range(1, count + 1):
            kernel = s[f"{at}.conv{k}.linear.weight"].shape[-1]
            here = stride if k == count - 1 else 1  # in the 3×3 layer of a bottleneck, the first of a basic block
            y = _batch(s, f"{at}.bn{k}", _conv(s, f"{at}.conv{k}", y, here, kernel // 2))
            y = y.relu() if k < count else y
        if f"{at}.downsample.1.weight" in s:
            x = _batch(s, f"{at}.downsample.1", _conv(s, f"{at}.downsample.0", x, stride))
        x = (x + y).relu()
    return _conv(s, "fc", x).mean((2, 3)) + BIAS


def densenet(state: State, x: Tensor) -> Tensor:
    """Logits (N, classes) of encoded pictures (N, 6, H, W)."""
    s, x = _start(state, x)
    x = F.avg_pool2d(_batch(s, "features.1", _conv(s, "features.0", x, 2, 3)).relu(), 3, 2, 1)
    last = max(int(name.split(".")[1]) for name in s if name.startswith("features."))
    for place in range(4, last):
        if f"features.{place}.2.linear.weight" in s:
            y = _conv(s, f"features.{place}.2", _batch(s, f"features.{place}.0", x).relu())
            x = F.avg_pool2d(y, 2)
            continue
        for j in range(1, 1 + sum(name.startswith(f"features.{place}.") and ".conv1." in name for name in s)):
            at = f"features.{place}.denselayer{j}"
            y = _conv(s, f"{at}.conv1", _batch(s, f"{at}.norm1", x).relu())
            x = torch.cat([x, _conv(s, f"{at}.conv2", _batch(s, f"{at}.norm2", y).relu(), 1, 1)], 1)
    return _conv(s, "classifier", _batch(s, f"features.{last}", x).relu()).mean((2, 3)) + BIAS


def transformer(state: State, x: Tensor, *, heads: int, patch: int) -> Tensor:
    """Logits (N, classes) of encoded pictures (N, 6, H, W)."""
    s, x = _start(state, x)
    for i in range(sum(".conv_stem." in name and ".linear." in name for name in s)):
        name = f"to_patch_embedding.conv_stem.{3 * i}"
        wider = i == 0 or s[f"{name}.linear.weight"].shape[0] > s[f"{name}.linear.weight"].shape[1]
        x = _spread(s, f"to_patch_embedding.conv_stem.{3 * i + 1}", _conv(s, name, x, 2 if wider else 1, 1), (1, 2, 3))
        x = F.gelu(x)
    n, c, height, width = x.shape
    cells = x.reshape(n, c, height // patch, patch, width // patch, patch).permute(0, 2, 4, 3, 5, 1)
    x = _linear(s, "to_patch_embedding.linear", cells.reshape(n, height // patch, width // patch, -1))
    x = (x + sines(*x.shape[1:])).flatten(1, 2)
    for i in range(sum(name.endswith("to_qkv.weight") for name in s)):
        at = f"transformer.encoder_{i}"
        y = _spread(s, f"{at}.attn.norm", x, (-1,)) @ s[f"{at}.attn.to_qkv.weight"].t()
        q, k, v = (part.unflatten(-1, (heads, 64)).transpose(1, 2) for part in y.chunk(3, -1))
        mixed = ((q @ k.mT / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + _linear(s, f"{at}.attn.to_out", mixed)
        y = _linear(s, f"{at}.ff.net.linear1", _spread(s, f"{at}.ff.net.norm", x, (-1,)))
        x = x + _linear(s, f"{at}.ff.net.linear2", F.gelu(y))
    return _linear(s, "linear_head.linear", _spread(s, "linear_head.norm", x, (-1,))).mean(1) + BIAS
