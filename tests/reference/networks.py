"""Slow float64 twins of whole networks, from the paper and the published layouts, without autograd.

A B-cos network is linear once its dynamic factors are numbers. `Dual` runs a network twice: the
first pass computes every factor (cosines, spreads, attention) on the picture and writes it down;
the second replays the same linear steps on *any* inputs with those numbers. Replayed on a basis
it gives W; replayed on zeros, constants on, it gives the constants. Nothing here knows how the
library computes either. Weights are read by the names of a `state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.windows import see_each_other

State = dict[str, Tensor]
Network = Callable[["Dual", Tensor], Tensor]


class Dual:
    """The steps of a network, with factors that are computed once and then replayed.

    `constant` is 1 where constants are added and 0 where only the linear map is wanted.
    """

    def __init__(self, state: State, *, b: float = 2.0, max_out: int = 1, norm_eps: float = 1e-5) -> None:
        self.state = {k: v.double() for k, v in state.items()}
        self.b, self.max_out, self.norm_eps = b, max_out, norm_eps
        self.factors: list[Tensor] = []
        self.replaying = False
        self.place = 0
        self.constant = 1.0

    def factor(self, compute: Callable[[], Tensor]) -> Tensor:
        """A number for each place: computed in the first pass, replayed in later ones."""
        if not self.replaying:
            self.factors.append(compute())
        self.place += 1
        return self.factors[self.place - 1]

    def scale(self, y: Tensor, norm: Callable[[], Tensor]) -> Tensor:
        """`|cos|^(B-1) · y`; the published code adds 1e-6 to |cos| unless B is 2."""
        if self.b == 1:
            return y
        if self.b == 2:
            return y * self.factor(lambda: y.abs() / norm())
        return y * self.factor(lambda: ((y / norm()).abs() + 1e-6) ** (self.b - 1))

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        """B-cos convolution: patches are cut out, filters have unit norm."""
        w = self.state[name + ".weight"]
        w = w / w.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        n, k = len(x), w.shape[2]
        patches = F.unfold(x, k, padding=padding, stride=stride)
        side = ((x.shape[2] + 2 * padding - k) // stride + 1, (x.shape[3] + 2 * padding - k) // stride + 1)
        patches = patches.reshape(n, groups, -1, side[0] * side[1])
        y = torch.einsum("ngdp,god->ngop", patches, w.reshape(groups, len(w) // groups, -1))
        if self.max_out > 1:
            y = self.best(y.reshape(n, groups, -1, self.max_out, y.shape[-1]))
        out = self.scale(y, lambda: (patches.square().sum(2, keepdim=True) + 1e-6).sqrt())
        return out.reshape(n, -1, *side)

    def best(self, y: Tensor) -> Tensor:
        """The largest of the M filters of the first pass: which one is a factor too."""
        which = self.factor(lambda: F.one_hot(y.argmax(3), self.max_out).movedim(-1, 3).to(y.dtype))
        return (y * which).sum(3)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """B-cos linear layer over the last axis."""
        w = self.state[name + ".weight"]
        y = x @ (w / w.norm(dim=1, keepdim=True)).t()
        if self.max_out > 1:
            y = y.reshape(*y.shape[:-1], -1, self.max_out)
            which = self.factor(lambda: F.one_hot(y.argmax(-1), self.max_out).to(y.dtype))
            y = (y * which).sum(-1)
        return self.scale(y, lambda: x.norm(dim=-1, keepdim=True) + 1e-12)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Uncentred batch norm without bias, running variance: a fixed factor for each channel."""
        root = (self.state[name + ".running_var"] + self.norm_eps).sqrt()
        return x * (self.state[name + ".weight"] / root).reshape(1, -1, 1, 1)

    def spread_norm(self, name: str, x: Tensor, dims: tuple[int, ...], *, centered: bool, weight_dim: int) -> Tensor:
        """Norms over an image or a position: the mean is linear, the spread is a factor."""
        shape = [1] * x.dim()
        shape[weight_dim] = -1
        spread = self.factor(lambda: 1 / (x.var(dims, correction=0, keepdim=True) + self.norm_eps).sqrt())
        middle = x - x.mean(dims, keepdim=True) if centered else x
        return middle * spread * self.state[name + ".weight"].reshape(shape)

    def low_pass(self, x: Tensor) -> Tensor:
        """[1, 2, 1]/4 on both axes at every second position, over what lies inside the picture."""
        line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype)
        kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
        inside = F.conv2d(torch.ones_like(x[:1]), kernel, stride=2, padding=1, groups=x.shape[1])
        return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1]) / inside


def resnet(
    depths: tuple[int, ...], *, bottleneck: bool, groups: int = 1, small: bool = False, antialias: bool = False
) -> Network:
    """ResNet v1.5 without activations; strides stand in the 3×3 convolutions."""

    def strided(d: Dual, name: str, x: Tensor, stride: int, padding: int, groups: int = 1) -> Tensor:
        if antialias and stride > 1:
            return d.conv(name + ".1", d.low_pass(x), 1, padding, groups)
        return d.conv(name, x, stride, padding, groups)

    def block(d: Dual, name: str, x: Tensor, stride: int) -> Tensor:
        if bottleneck:
            y = d.batch_norm(name + ".bn1", d.conv(name + ".conv1", x))
            y = d.batch_norm(name + ".bn2", strided(d, name + ".conv2", y, stride, 1, groups))
            y = d.batch_norm(name + ".bn3", d.conv(name + ".conv3", y))
        else:
            y = d.batch_norm(name + ".bn1", strided(d, name + ".conv1", x, stride, 1))
            y = d.batch_norm(name + ".bn2", d.conv(name + ".conv2", y, 1, 1))
        if any(key.startswith(name + ".downsample") for key in d.state):
            x = d.batch_norm(name + ".downsample.1", strided(d, name + ".downsample.0", x, stride, 0))
        return x + y

    def run(d: Dual, x: Tensor) -> Tensor:
        if small:
            x = d.batch_norm("bn1", d.conv("conv1", x, 1, 1))
        elif antialias:
            x = d.low_pass(d.batch_norm("stem.1", d.conv("stem.0", x, 1, 1)))
            x = d.low_pass(d.batch_norm("bn1", d.conv("conv1", x, 1, 1)))
        else:
            x = F.avg_pool2d(d.batch_norm("bn1", d.conv("conv1", x, 2, 3)), 3, 2, 1)
        for i, depth in enumerate(depths):
            for j in range(depth):
                x = block(d, f"layer{i + 1}.{j}", x, 2 if i > 0 and j == 0 else 1)
        return d.conv("fc", x).mean((2, 3))

    return run


def densenet(depths: tuple[int, ...]) -> Network:
    """DenseNet-BC with a 7×7 stem: norm, 1×1, norm, 3×3, concatenated; transitions halve."""

    def run(d: Dual, x: Tensor) -> Tensor:
        x = F.avg_pool2d(d.batch_norm("features.norm0", d.conv("features.conv0", x, 2, 3)), 3, 2, 1)
        for i, depth in enumerate(depths, 1):
            for j in range(1, depth + 1):
                name = f"features.denseblock{i}.denselayer{j}"
                y = d.conv(name + ".conv1", d.batch_norm(name + ".norm1", x))
                x = torch.cat([x, d.conv(name + ".conv2", d.batch_norm(name + ".norm2", y), 1, 1)], 1)
            if i < len(depths):
                name = f"features.transition{i}"
                x = F.avg_pool2d(d.conv(name + ".conv", d.batch_norm(name + ".norm", x)), 2)
        return d.conv("classifier", d.batch_norm("features.norm5", x)).mean((2, 3))

    return run


def vgg(depths: tuple[int, ...]) -> Network:
    """VGG with batch norms: convolutions and norms, average pools, three convolutions as classifier."""

    def run(d: Dual, x: Tensor) -> Tensor:
        index = 0
        for depth in depths:
            for _ in range(depth):
                x = d.batch_norm(f"features.{index + 1}", d.conv(f"features.{index}", x, 1, 1))
                index += 2
            x, index = F.avg_pool2d(x, 2), index + 1
        for i, padding in enumerate((3, 0, 0)):
            x = d.conv(f"classifier.{i}", x, 1, padding)
        return x.mean((2, 3))

    return run


def convnext(depths: tuple[int, ...], *, position_norm: bool) -> Network:
    """ConvNeXt without activations; norms over positions (centred) or batches (not)."""

    def norm(d: Dual, name: str, x: Tensor) -> Tensor:
        if position_norm:
            return d.spread_norm(name, x, (1,), centered=True, weight_dim=1)
        return d.batch_norm(name, x)

    def run(d: Dual, x: Tensor) -> Tensor:
        x = norm(d, "features.1", d.conv("features.0", x, 4))
        for i, depth in enumerate(depths):
            if i:
                name = f"features.{2 * i + 1}"
                x = d.conv(name + ".1", norm(d, name + ".0", x), 2)
            for j in range(depth):
                name = f"features.{2 * i + 2}.{j}"
                y = norm(d, name + ".block.1", d.conv(name + ".block.0", x, 1, 3, groups=x.shape[1]))
                y = d.conv(name + ".block.3", d.conv(name + ".block.2", y))
                x = x + y * d.state[name + ".layer_scale"]
        return d.conv("classifier.1", norm(d, "classifier.0", x)).mean((2, 3))

    return run


def vision_transformer(depth: int, heads: int, *, patch: int, stem: int = 0, qkv: str = "linear") -> Network:
    """SimpleViT, or ViT-C with `stem` convolutions: tokens by rows, fixed sines, attention, mean over tokens.

    With qkv="bcos" it is BvT (arXiv 2401.08868): the map of queries, keys and values is a B-cos layer; ours has a norm before the
    sines.
    """

    def embed(d: Dual, x: Tensor) -> Tensor:
        widths = [x.shape[1]]
        for i in range(stem):
            name = f"to_patch_embedding.conv_stem.{3 * i}"
            widths.append(d.state[name + ".weight"].shape[0] // d.max_out)
            x = d.conv(name, x, 2 if widths[-1] > widths[-2] else 1, 1)
            x = d.spread_norm(f"to_patch_embedding.conv_stem.{3 * i + 1}", x, (1, 2, 3), centered=True, weight_dim=1)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 3, 5, 1)
        tokens = d.linear("to_patch_embedding.linear", x.reshape(n, h // patch, w // patch, -1))
        if qkv == "linear":
            return tokens
        return d.spread_norm("to_patch_embedding.norm", tokens, (-1,), centered=True, weight_dim=-1)

    def run(d: Dual, x: Tensor) -> Tensor:
        x = embed(d, x)
        x = x + d.constant * sines(*x.shape[1:])
        x = x.flatten(1, 2)
        for i in range(depth):
            x = x + attend(d, f"transformer.encoder_{i}.attn", x, heads, qkv)
            name = f"transformer.encoder_{i}.ff.net"
            y = d.spread_norm(name + ".norm", x, (-1,), centered=True, weight_dim=-1)
            x = x + d.linear(name + ".linear2", d.linear(name + ".linear1", y))
        x = d.spread_norm("linear_head.norm", x.mean(1), (-1,), centered=True, weight_dim=-1)
        return d.linear("linear_head.linear", x)

    return run


def attend(d: Dual, name: str, x: Tensor, heads: int, qkv: str = "linear", seen: Tensor | None = None) -> Tensor:
    """Attention whose weights are a factor: linear in the values. `seen` (heads, T, T): what is added to scores."""
    x = d.spread_norm(name + ".norm", x, (-1,), centered=True, weight_dim=-1)
    parts = d.linear(name + ".to_qkv", x) if qkv == "bcos" else x @ d.state[name + ".to_qkv.weight"].t()
    q, k, v = parts.chunk(3, dim=-1)
    q, k, v = (t.reshape(len(x), -1, heads, t.shape[-1] // heads).transpose(1, 2) for t in (q, k, v))
    added = 0 if seen is None else seen
    weights = d.factor(lambda: (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + added).softmax(-1))
    return d.linear(name + ".to_out", (weights @ v).transpose(1, 2).flatten(2))


def swin(depths: tuple[int, ...], heads: tuple[int, ...], *, patch: int, window: int, qkv: str = "bcos") -> Network:
    """Swin with B-cos layers: windows, shifted in every second block, over all tokens at once, and merging (arXiv 2103.14030)."""

    def run(d: Dual, x: Tensor) -> Tensor:
        x = d.linear("patches.linear", merged(x.movedim(1, -1), patch))
        x = d.spread_norm("patches.norm", x, (-1,), centered=True, weight_dim=-1)
        for i, depth in enumerate(depths):
            stage = f"layers.stage_{i}"
            if i:
                x = d.spread_norm(stage + ".norm", merged(x, 2), (-1,), centered=True, weight_dim=-1)
                x = d.linear(stage + ".reduce", x)
            n, height, width, dim = x.shape
            x = x.reshape(n, -1, dim)
            for j in range(depth):
                block = f"{stage}.block_{j}"
                table = d.state[block + ".attn.relative_position"]
                seen = in_windows(table, (height, width), window, window // 2 if j % 2 else 0)
                x = x + attend(d, block + ".attn", x, heads[i], qkv, seen)
                y = d.spread_norm(block + ".ff.net.norm", x, (-1,), centered=True, weight_dim=-1)
                x = x + d.linear(block + ".ff.net.linear2", d.linear(block + ".ff.net.linear1", y))
            x = x.reshape(n, height, width, dim)
        x = d.spread_norm("head_layers.norm", x.flatten(1, 2).mean(1), (-1,), centered=True, weight_dim=-1)
        return d.linear("head_layers.linear", x)

    return run


def merged(x: Tensor, p: int) -> Tensor:
    """p × p tokens side by side, row by row; zeros where there is none."""
    n, height, width, c = x.shape
    rows, columns = -(-height // p), -(-width // p)
    out = torch.zeros(n, rows, columns, p * p * c, dtype=x.dtype)
    for y in range(height):
        for z in range(width):
            place = ((y % p) * p + z % p) * c
            out[:, y // p, z // p, place : place + c] = x[:, y, z]
    return out


def in_windows(table: Tensor, size: tuple[int, int], window: int, shift: int) -> Tensor:
    """(heads, T, T): β of relative positions within a window, minus infinity between windows."""
    places = [(y, x) for y in range(size[0]) for x in range(size[1])]
    out = torch.full((table.shape[1], len(places), len(places)), -torch.inf, dtype=torch.float64)
    for a, here in enumerate(places):
        for c, there in enumerate(places):
            if see_each_other(here, there, size, window, shift):
                steps = [here[i] - there[i] + window - 1 for i in (0, 1)]
                out[:, a, c] = table[steps[0] * (2 * window - 1) + steps[1]]
    return out


def sines(height: int, width: int, dim: int) -> Tensor:
    """`[sin ωx, cos ωx, sin ωy, cos ωy]` with ω from 1 to 1/10000 in dim/4 steps."""
    quarter = dim // 4
    omega = torch.tensor([10000 ** (-i / (quarter - 1)) for i in range(quarter)], dtype=torch.float64)
    table = torch.zeros(height, width, dim, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            parts = [(column * omega).sin(), (column * omega).cos(), (row * omega).sin(), (row * omega).cos()]
            table[row, column] = torch.cat(parts)
    return table


def explain(network: Network, dual: Dual, x: Tensor, bias: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (C,), W (C, *x), and the constants' sum without the logit bias (C,), of one picture (1, *x)."""
    logits = network(dual, x)[0] + bias
    dual.replaying = True

    def replay(inputs: Tensor, constant: float) -> Tensor:
        dual.place, dual.constant = 0, constant
        return network(dual, inputs)

    basis = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    rows = torch.cat([replay(part, 0.0) for part in basis.split(256)])
    constants = replay(torch.zeros_like(x), 1.0)[0]
    return logits, rows.t().reshape(-1, *x.shape[1:]), constants
