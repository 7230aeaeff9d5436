"""Small ordinary networks that can be drawn: each step as a module of torch, and again as a chain of held maps.

A step is a word, or a pair (word, steps) for what stands around others. Every step keeps (N, 4, 6, 6), so that any
sequence is a network. `build` makes the modules, `twin` the referee that `tests/reference/held.py` runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference import held as gates
from tests.reference.held import Gate, Held, Network, split_heads
from tests.reference.ordinary import windows

CHANNELS, SIDE, HEADS, CLASSES = 4, 6, 2, 3
Step = Any  # str | tuple[str, list[Step]]


def _over_x(f: Callable[[Tensor], Tensor]) -> Gate:
    """f(x)/x, as a gate is for a function through zero."""
    return lambda x: torch.where(x == 0, 0.0, f(x) / torch.where(x == 0, 1.0, x))


def _below(x: Tensor, scale: float = 1.0) -> Tensor:
    return x.clamp(min=0) + scale * x.clamp(max=0).expm1()


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), also where exp(x) is no number any more."""
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


_SELU = (1.0507009873554805, 1.6732632423543772)
_TANH_GELU = math.sqrt(2 / math.pi)
# What a function does to a number, from its paper or torch's page: a module, and the gate of the rest above f(0).
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], Gate]] = {
    "relu": (nn.ReLU, gates.step),
    "relu6": (nn.ReLU6, _over_x(lambda x: x.clamp(0, 6))),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), lambda x: torch.where(x > 0, torch.ones_like(x), 0.2)),
    "elu": (nn.ELU, _over_x(_below)),
    "selu": (nn.SELU, _over_x(lambda x: _SELU[0] * _below(x, _SELU[1]))),
    "celu": (lambda: nn.CELU(2.0), _over_x(lambda x: x.clamp(min=0) + 2 * (x.clamp(max=0) / 2).expm1())),
    "gelu": (nn.GELU, gates.phi),
    "gelu_tanh": (lambda: nn.GELU("tanh"), lambda x: (1 + (_TANH_GELU * (x + 0.044715 * x**3)).tanh()) / 2),
    "silu": (nn.SiLU, gates.sigmoid),
    "mish": (nn.Mish, lambda x: _softplus(x).tanh()),
    "hardswish": (nn.Hardswish, gates.hard_sigmoid),
    "tanh": (nn.Tanh, _over_x(torch.tanh)),
    "softplus": (nn.Softplus, _over_x(lambda x: _softplus(x) - math.log(2))),
    "prelu": (lambda: nn.PReLU(CHANNELS), gates.step),  # and its slope below 0, in `_activation`
}
EDITED = ("relu", "silu", "hardswish", "elu")  # run in place behind a convolution


class ChannelsLast(nn.Module):
    """Layer norm over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Squeeze(nn.Module):
    """Squeeze and excite."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(CHANNELS, 3, 1), nn.Conv2d(3, CHANNELS, 1)
        self.hard = hard

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return x * (F.hardsigmoid(y) if self.hard else y.sigmoid())


class Positions(nn.Module):
    """Self-attention of positions."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        return self.attention(t, t, t, need_weights=not self.fused)[0].transpose(1, 2).reshape(x.shape)


class Tokens(nn.Module):
    """Positions first, then images (as `nn.MultiheadAttention` has it by default): a class token joined, a table added."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.table = nn.Parameter(torch.zeros(1, 1, CHANNELS)), nn.Parameter(torch.zeros(SIDE**2 + 1, 1, CHANNELS))
        self.attention = nn.MultiheadAttention(CHANNELS, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).permute(2, 0, 1)
        t = torch.cat([self.token.expand(1, len(x), -1), t]) + self.table
        t = t + self.attention(t, t, t, need_weights=False)[0]
        return t[1:].permute(1, 2, 0).reshape(x.shape)


class Windows(nn.Module):
    """Attention in windows that are folded into the axis of images, a place added in each, the weights of heads mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 9, CHANNELS))
        self.qkv, self.mix, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(HEADS, HEADS), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        n, c, rows, columns = len(x), CHANNELS, SIDE // 3, SIDE // 3
        t = x.reshape(n, c, rows, 3, columns, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 9, c) + self.place
        q, k, v = self.qkv(t).reshape(-1, 9, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (c // HEADS) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        weights = self.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        t = self.proj((weights @ v).transpose(1, 2).reshape(-1, 9, c))
        return t.reshape(n, rows, columns, 3, 3, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, SIDE, SIDE)


class StarReLU(nn.Module):
    """`s · relu(x)² + b` (arXiv 2210.13452)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x) ** 2 + self.bias


class Unit(nn.Module):
    """A gated linear unit over channels."""

    def __init__(self, swish: bool) -> None:
        super().__init__()
        self.into, self.swish = nn.Conv2d(CHANNELS, 2 * CHANNELS, 1), swish

    def forward(self, x: Tensor) -> Tensor:
        if not self.swish:
            return F.glu(self.into(x), 1)
        a, b = self.into(x).chunk(2, 1)
        return F.silu(a) * b


class Shrunk(nn.Module):
    """Half the size and back, between the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:], mode="bilinear")


class Around(nn.Module):
    """A shortcut that is added, in place or not, or joined."""

    def __init__(self, how: str, body: nn.Module) -> None:
        super().__init__()
        self.how, self.body = how, body
        self.merge = nn.Conv2d(2 * CHANNELS, CHANNELS, 1, bias=False) if how == "cat" else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.merge is not None:
            return self.merge(torch.cat([y, x], 1))
        if self.how == "add_":
            y = y * 1.0
            y += x
            return y
        return x + y


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "conv3": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "conv1": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
    "depthwise": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
    "batch": lambda: nn.BatchNorm2d(CHANNELS),
    "group": lambda: nn.GroupNorm(2, CHANNELS),
    "layer": ChannelsLast,
    "instance": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "instance running": lambda: nn.InstanceNorm2d(CHANNELS, affine=True, track_running_stats=True),
    "max": lambda: nn.MaxPool2d(3, 1, 1),
    "avg": lambda: nn.AvgPool2d(3, 1, 1),
    "shrunk": Shrunk,
    "squeeze": lambda: Squeeze(False),
    "hard squeeze": lambda: Squeeze(True),
    "attention": lambda: Positions(True),
    "plain attention": lambda: Positions(False),
    "tokens": Tokens,
    "windows": Windows,
    "star": StarReLU,
    "glu": lambda: Unit(False),
    "swiglu": lambda: Unit(True),
    **{name: make for name, (make, _) in ACTIVATIONS.items()},
    **{f"conv {name}_": lambda name=name: _edited(name) for name in EDITED},  # type: ignore[misc]
}
AROUND = ("add", "add_", "cat")


def _edited(name: str) -> nn.Module:
    activation = ACTIVATIONS[name][0]()
    activation.inplace = True  # type: ignore[assignment]
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), activation)


def build(steps: list[Step]) -> nn.Sequential:
    """Stem, steps, and a linear head on all positions."""
    stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
    return nn.Sequential(stem, _body(steps), nn.Flatten(), nn.Linear(CHANNELS * SIDE * SIDE, CLASSES))


def _body(steps: list[Step]) -> nn.Sequential:
    return nn.Sequential(*(LEAVES[s]() if isinstance(s, str) else Around(s[0], _body(s[1])) for s in steps))


def twin(steps: list[Step]) -> Network:
    """The same network as held linear maps, by the names of its modules."""

    def run(h: Held, x: Tensor) -> Tensor:
        x = _follow(h, "1", steps, h.conv("0", x, padding=1))
        return h.linear("3", x.flatten(1))

    return run


def _follow(h: Held, name: str, steps: list[Step], x: Tensor) -> Tensor:
    for i, s in enumerate(steps):
        here = f"{name}.{i}"
        if isinstance(s, str):
            x = _leaf(h, here, s, x)
            continue
        y = _follow(h, here + ".body", s[1], x)
        x = h.conv(here + ".merge", torch.cat([y, x], 1)) if s[0] == "cat" else x + y
    return x


def _leaf(h: Held, name: str, word: str, x: Tensor) -> Tensor:
    n, c, *space = x.shape
    if word in ACTIVATIONS:
        return _activation(h, name, word, x)
    if word.startswith("conv "):
        return _activation(h, name + ".1", word[5:-1], h.conv(name + ".0", x, padding=1))
    if word in ("conv3", "conv1", "depthwise"):
        return h.conv(name, x, padding=int(word != "conv1"), groups=c if word == "depthwise" else 1)
    if word.endswith("attention"):
        y = h.multihead(name + ".attention", x.flatten(2).transpose(1, 2), HEADS)
        return y.transpose(1, 2).reshape(n, c, *space)
    if word.endswith("squeeze"):
        return x * h.factor(lambda: _excite(h, name, x, gates.hard_sigmoid if word[0] == "h" else gates.sigmoid))
    if word in ("glu", "swiglu"):
        a, b = h.conv(name + ".into", x).chunk(2, 1)
        return a * h.factor(lambda: gates.sigmoid(b)) if word == "glu" else b * h.factor(lambda: a * gates.sigmoid(a))
    if word == "tokens":
        return _tokens(h, name, x)
    if word == "windows":
        return _windows(h, name, x)
    plain: dict[str, Callable[[], Tensor]] = {
        "star": lambda: h.plus(name + ".bias", x * h.factor(lambda: h.state[name + ".scale"] * x.clamp(min=0))),
        "batch": lambda: h.batch_norm(name, x),
        "group": lambda: h.group_norm(name, x, 2),
        "instance": lambda: h.group_norm(name, x, c),
        "instance running": lambda: h.batch_norm(name, x),
        "layer": lambda: h.layer_norm(name + ".norm", x.movedim(1, -1)).movedim(-1, 1),
        "max": lambda: h.max_pool(x, 3, 1, 1),
        "avg": lambda: F.conv2d(x, x.new_full((c, 1, 3, 3), 1 / 9), padding=1, groups=c),
        "shrunk": lambda: F.interpolate(x.reshape(n, c, SIDE // 2, 2, -1, 2).mean((3, 5)), size=space, mode="bilinear"),
    }
    return plain[word]()


def _tokens(h: Held, name: str, x: Tensor) -> Tensor:
    t = x.flatten(2).transpose(1, 2)
    token = h.state[name + ".token"] * h.amount(name + ".token", t)
    t = h.plus(name + ".table", torch.cat([token.expand(len(t), 1, -1), t], 1), h.state[name + ".table"].transpose(0, 1))
    t = t + h.multihead(name + ".attention", t, HEADS)
    return t[:, 1:].transpose(1, 2).reshape(x.shape)


def _windows(h: Held, name: str, x: Tensor) -> Tensor:
    t = h.plus(name + ".place", windows(x.movedim(1, -1), 3))
    q, k, v = (split_heads(a, HEADS) for a in h.linear(name + ".qkv", t).chunk(3, -1))

    def weights() -> Tensor:
        each = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        mixed = torch.einsum("nwhst,gh->nwgst", each, h.state[name + ".mix.weight"])
        return mixed + h.state[name + ".mix.bias"][:, None, None]

    t = h.linear(name + ".proj", (h.factor(weights) @ v).transpose(-2, -3).flatten(-2))
    t = t.reshape(len(x), SIDE // 3, SIDE // 3, 3, 3, CHANNELS).transpose(2, 3).reshape(len(x), SIDE, SIDE, CHANNELS)
    return t.movedim(-1, 1)


def _activation(h: Held, name: str, word: str, x: Tensor) -> Tensor:
    gate = ACTIVATIONS[word][1]
    if word == "prelu":
        slope = h.state[name + ".weight"].reshape(-1, 1, 1)
        return x * h.factor(lambda: torch.where(x > 0, 1.0, slope))
    y = h.gated(gate, x)
    if word != "softplus":
        return y
    y = h.plus(name + ".offset", y, torch.full_like(x[:1], math.log(2)))
    return y if h.replaying else _softplus(x)  # the picture's own pass loses nothing where log 2 cancels


def _excite(h: Held, name: str, x: Tensor, outer: Gate) -> Tensor:
    fc1, fc2 = (h.state[f"{name}.fc{i}.weight"].flatten(1) for i in (1, 2))
    y = (x.mean((2, 3)) @ fc1.t() + h.state[name + ".fc1.bias"]).clamp(min=0)
    return outer(y @ fc2.t() + h.state[name + ".fc2.bias"])[:, :, None, None]
