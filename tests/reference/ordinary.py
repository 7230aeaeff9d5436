"""Six families of ordinary networks, written again from their papers as chains of held linear maps.

Layouts and names of weights are torchvision's; `GluMlp` below is our own. `tests/reference/held.py` says what a
step is. Nothing here uses autograd or knows a rule of the library.

N images, C channels, H W space, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference import held as gates
from tests.reference.held import Gate, Held, Network, split_heads


def drawn(net: nn.Module) -> nn.Module:
    """Parameters and statistics drawn, so that no branch, token or table is a zero; in float64, for use."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() < 2 or any(word in name for word in ("layer_scale", "token", "embedding", "place")):
                p.normal_(0.5, 0.7)
            elif "table" in name:
                p.normal_()
            else:
                p.normal_(0, 1.4 / p[0].numel() ** 0.5)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.2, 0.5)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net.double().eval()


def resnet(blocks: dict[str, int], *, bottleneck: bool) -> Network:
    """ResNet v1.5 (arXiv 1512.03385): norms after convolutions, ReLU, a max pool; `blocks` by stage."""

    def block(h: Held, name: str, x: Tensor, stride: int) -> Tensor:
        # Kernel, stride: the stride stands in the 3×3 convolution.
        steps = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        y = x
        for i, (size, step) in enumerate(steps, 1):
            y = h.batch_norm(f"{name}.bn{i}", h.conv(f"{name}.conv{i}", y, step, size // 2))
            y = h.gated(gates.step, y) if i < len(steps) else y
        if f"{name}.downsample.0.weight" in h.state:
            x = h.batch_norm(f"{name}.downsample.1", h.conv(f"{name}.downsample.0", x, stride))
        return h.gated(gates.step, x + y)

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.gated(gates.step, h.batch_norm("bn1", h.conv("conv1", x, 2, 3)))
        x = h.max_pool(x, 3, 2, 1)
        for stage, (name, depth) in enumerate(blocks.items()):
            for j in range(depth):
                x = block(h, f"{name}.{j}", x, 2 if stage and not j else 1)
        return h.linear("fc", x.mean((2, 3)))

    return run


def channels_last(h: Held, name: str, x: Tensor) -> Tensor:
    """Layer norm over the channels of each position of (N, C, H, W)."""
    return h.layer_norm(name, x.movedim(1, -1)).movedim(-1, 1)


def convnext(depths: tuple[int, ...]) -> Network:
    """ConvNeXt (arXiv 2201.03545): depthwise 7×7, layer norm, two linear maps with GELU, layer scale, shortcut."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = channels_last(h, "features.0.1", h.conv("features.0.0", x, 4))
        for i, depth in enumerate(depths):
            if i:
                x = h.conv(f"features.{2 * i}.1", channels_last(h, f"features.{2 * i}.0", x), 2)
            for j in range(depth):
                name = f"features.{2 * i + 1}.{j}"
                y = h.conv(name + ".block.0", x, 1, 3, groups=x.shape[1]).movedim(1, -1)
                y = h.linear(name + ".block.3", h.layer_norm(name + ".block.2", y))
                y = h.linear(name + ".block.5", h.gated(gates.phi, y))
                x = x + y.movedim(-1, 1) * h.state[name + ".layer_scale"]
        x = channels_last(h, "classifier.0", x.mean((2, 3), keepdim=True))
        return h.linear("classifier.2", x.flatten(1))

    return run


def vision_transformer(depth: int, heads: int, patch: int) -> Network:
    """ViT (arXiv 2010.11929): a class token is joined, a position embedding added, the token is read at the end."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.conv("conv_proj", x, patch).flatten(2).transpose(1, 2)
        token = h.state["class_token"] * h.amount("class_token", x)
        x = torch.cat([token.expand(len(x), 1, -1), x], 1)
        x = h.plus("encoder.pos_embedding", x)
        for i in range(depth):
            name = f"encoder.layers.encoder_layer_{i}"
            x = x + h.multihead(name + ".self_attention", h.layer_norm(name + ".ln_1", x), heads)
            y = h.linear(name + ".mlp.0", h.layer_norm(name + ".ln_2", x))
            x = x + h.linear(name + ".mlp.3", h.gated(gates.phi, y))
        return h.linear("heads.head", h.layer_norm("encoder.ln", x)[:, 0])

    return run


def windows(x: Tensor, size: int) -> Tensor:
    """(N, H, W, C) → (N, windows, size², C), row by row."""
    n, height, width, c = x.shape
    x = x.reshape(n, height // size, size, width // size, size, c)
    return x.transpose(2, 3).reshape(n, -1, size * size, c)


def relative_bias(table: Tensor, size: int) -> Tensor:
    """(heads, size², size²): the entry of the table for the way from the second place to the first."""
    places = [(row, column) for row in range(size) for column in range(size)]
    index = [[(a - c + size - 1) * (2 * size - 1) + b - d + size - 1 for c, d in places] for a, b in places]
    return table[torch.tensor(index)].movedim(-1, 0)


def forbidden(height: int, width: int, size: int, shift: tuple[int, int]) -> Tensor:
    """(windows, 1, size², size²): -100 between places that the cyclic shift made neighbours, else 0."""

    def region(side: int, step: int) -> Tensor:
        places = torch.arange(side)
        return (places >= side - size).long() + (places >= side - step).long() if step else 0 * places

    label = 3 * region(height, shift[0])[:, None] + region(width, shift[1])
    label = windows(label[None, :, :, None], size)[0, :, :, 0]
    return -100.0 * (label[:, :, None] != label[:, None, :]).double()[:, None]


def in_windows(x: Tensor, size: int, shift: int) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """The windows of the shifted map (N, H, W, C), filled up by zeros; the way back; what must not meet in them."""
    n, height, width, c = x.shape
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    high, wide = x.shape[1:3]
    steps = (shift if size < high else 0, shift if size < wide else 0)

    def back(y: Tensor) -> Tensor:
        y = y.reshape(n, high // size, wide // size, size, size, c).transpose(2, 3).reshape(n, high, wide, c)
        return y.roll(steps, (1, 2))[:, :height, :width]

    return windows(x.roll((-steps[0], -steps[1]), (1, 2)), size), back, forbidden(high, wide, size, steps)


def window_attention(h: Held, name: str, x: Tensor, heads: int, size: int, shift: int) -> Tensor:
    """Attention inside windows, with a table of relative positions (zeros are added before the projection)."""
    x, back, mask = in_windows(x, size, shift)
    q, k, v = (split_heads(t, heads) for t in h.linear(name + ".qkv", x).chunk(3, -1))
    y = h.attend(q, k, v, relative_bias(h.state[name + ".relative_position_bias_table"], size) + mask)
    return back(h.linear(name + ".proj", y.transpose(-2, -3).flatten(-2)))


def cosine_attention(h: Held, name: str, x: Tensor, heads: int, size: int, shift: int) -> Tensor:
    """Version 2: cosines of queries and keys, a temperature a head, positions through a small network."""
    x, back, mask = in_windows(x, size, shift)
    bias = h.state[name + ".qkv.bias"].clone()
    bias[x.shape[-1] : 2 * x.shape[-1]] = 0  # keys have none
    y = h.plus(name + ".qkv.bias", x @ h.state[name + ".qkv.weight"].t(), bias)
    q, k, v = (split_heads(t, heads) for t in y.chunk(3, -1))

    def weights() -> Tensor:
        ways = h.state[name + ".relative_coords_table"].reshape(-1, 2)  # on a logarithmic scale, in float32
        first, second = (h.state[f"{name}.cpb_mlp.{i}.weight"].t() for i in (0, 2))
        table = (ways @ first + h.state[name + ".cpb_mlp.0.bias"]).clamp(min=0) @ second
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
        scale = h.state[name + ".logit_scale"].exp().clamp(max=100)
        return (cosines * scale + 16 * gates.sigmoid(relative_bias(table, size)) + mask).softmax(-1)

    return back(h.linear(name + ".proj", (h.factor(weights) @ v).transpose(-2, -3).flatten(-2)))


def swin(depths: tuple[int, ...], heads: tuple[int, ...], *, patch: int, window: int, version: int = 1) -> Network:
    """Swin (arXiv 2103.14030; version 2: 2111.09883): every second block shifts its windows; four neighbours merge.

    Version 1 has its norms before, version 2 behind attention, MLP and merging.
    """

    def normed(h: Held, name: str, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        return step(h.layer_norm(name, x)) if version == 1 else h.layer_norm(name, step(x))

    def merge(h: Held, name: str, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)
        return normed(h, name + ".norm", x, lambda t: h.linear(name + ".reduction", t))

    def block(h: Held, name: str, x: Tensor, count: int, shift: int) -> Tensor:
        attention = window_attention if version == 1 else cosine_attention
        x = x + normed(h, name + ".norm1", x, lambda t: attention(h, name + ".attn", t, count, window, shift))

        def mlp(t: Tensor) -> Tensor:
            return h.linear(name + ".mlp.3", h.gated(gates.phi, h.linear(name + ".mlp.0", t)))

        return x + normed(h, name + ".norm2", x, mlp)

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.layer_norm("features.0.2", h.conv("features.0.0", x, patch).movedim(1, -1))
        for i, depth in enumerate(depths):
            x = merge(h, f"features.{2 * i}", x) if i else x
            for j in range(depth):
                x = block(h, f"features.{2 * i + 1}.{j}", x, heads[i], window // 2 * (j % 2))
        return h.linear("head", h.layer_norm("norm", x).mean((1, 2)))

    return run


def conv_norm(h: Held, name: str, x: Tensor, *, stride: int = 1, depthwise: bool = False) -> Tensor:
    """A convolution that keeps the size, but for its stride, and its batch norm."""
    padding = h.state[name + ".0.weight"].shape[-1] // 2
    return h.batch_norm(name + ".1", h.conv(name + ".0", x, stride, padding, x.shape[1] if depthwise else 1))


def squeezed(h: Held, name: str, x: Tensor, inner: Gate, outer: Gate) -> Tensor:
    """Squeeze and excite (arXiv 1709.01507): a factor a channel, made from the channels' means, held whole."""

    def factor() -> Tensor:
        fc1, fc2 = (h.state[f"{name}.fc{i}.weight"].flatten(1) for i in (1, 2))
        y = x.mean((2, 3)) @ fc1.t() + h.state[name + ".fc1.bias"]
        return outer(y * inner(y) @ fc2.t() + h.state[name + ".fc2.bias"])[:, :, None, None]

    return x * h.factor(factor)


def inverted(h: Held, name: str, x: Tensor, stride: int, gate: Gate, squeeze: tuple[Gate, Gate]) -> Tensor:
    """Widen, a depthwise convolution, squeeze and excite where there is one, narrow; a shortcut where it fits."""
    i, y = 0, x
    if h.state[f"{name}.block.0.0.weight"].shape[1] > 1:
        y, i = h.gated(gate, conv_norm(h, f"{name}.block.0", y)), 1
    y = h.gated(gate, conv_norm(h, f"{name}.block.{i}", y, stride=stride, depthwise=True))
    if f"{name}.block.{i + 1}.fc1.weight" in h.state:
        y, i = squeezed(h, f"{name}.block.{i + 1}", y, *squeeze), i + 1
    y = conv_norm(h, f"{name}.block.{i + 1}", y)
    return x + y if x.shape == y.shape else y


def mobilenet(blocks: list[tuple[int, Gate]]) -> Network:
    """MobileNetV3 (arXiv 1905.02244): ReLU and hard swish, squeeze gates that are hard sigmoids; strides and gates."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.gated(gates.hard_sigmoid, conv_norm(h, "features.0", x, stride=2))
        for i, (stride, gate) in enumerate(blocks, 1):
            x = inverted(h, f"features.{i}", x, stride, gate, (gates.step, gates.hard_sigmoid))
        x = h.gated(gates.hard_sigmoid, conv_norm(h, f"features.{len(blocks) + 1}", x))
        x = h.gated(gates.hard_sigmoid, h.linear("classifier.0", x.mean((2, 3))))
        return h.linear("classifier.3", x)

    return run


def efficientnet(stages: list[tuple[int, int]]) -> Network:
    """EfficientNet (arXiv 1905.11946): SiLU, squeeze gates that are sigmoids; depth and stride by stage."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.gated(gates.sigmoid, conv_norm(h, "features.0", x, stride=2))
        for i, (depth, stride) in enumerate(stages, 1):
            for j in range(depth):
                step = 1 if j else stride
                x = inverted(h, f"features.{i}.{j}", x, step, gates.sigmoid, (gates.sigmoid, gates.sigmoid))
        x = h.gated(gates.sigmoid, conv_norm(h, f"features.{len(stages) + 1}", x))
        return h.linear("classifier.1", x.mean((2, 3)))

    return run


class GluMlp(nn.Module):
    """Tokens of patches through gated linear units (arXiv 2002.05202), one kind a block, with norms and shortcuts."""

    def __init__(self, kinds: tuple[str, ...], *, rms: bool, width: int = 8, inner: int = 12, patch: int = 4) -> None:
        super().__init__()
        self.kinds = kinds
        self.patches = nn.Conv2d(3, width, patch, patch)
        make = nn.RMSNorm if rms else nn.LayerNorm
        self.norms = nn.ModuleList(make(width, eps=1e-5) for _ in kinds)
        self.into = nn.ModuleList(nn.Linear(width, 2 * inner) for _ in kinds)
        self.out = nn.ModuleList(nn.Linear(inner, width) for _ in kinds)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for kind, norm, into, out in zip(self.kinds, self.norms, self.into, self.out, strict=True):
            y = into(norm(x))
            a, b = y.chunk(2, -1)
            units = {"swiglu": lambda a=a, b=b: F.silu(a) * b, "geglu": lambda a=a, b=b: b * F.gelu(a)}
            x = x + out(F.glu(y, -1) if kind == "glu" else units[kind]())
        return self.head(x.mean(1))


def glu_mlp(kinds: tuple[str, ...], *, rms: bool, patch: int = 4) -> Network:
    """`GluMlp`: the side that went through a function is held whole, the other side is linear."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = h.conv("patches", x, patch).flatten(2).transpose(1, 2)
        for i, kind in enumerate(kinds):
            y = h.rms_norm(f"norms.{i}", x) if rms else h.layer_norm(f"norms.{i}", x)
            a, b = h.linear(f"into.{i}", y).chunk(2, -1)
            if kind == "glu":  # a · σ(b)
                y = a * h.factor(lambda b=b: gates.sigmoid(b))
            else:
                gate = gates.sigmoid if kind == "swiglu" else gates.phi
                y = b * h.factor(lambda a=a, gate=gate: a * gate(a))
            x = x + h.linear(f"out.{i}", y)
        return h.linear("head", x.mean(1))

    return run
