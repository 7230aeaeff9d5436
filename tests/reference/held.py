"""A slow float64 machine that reads W and every named constant out of a network with held factors, without autograd.

An ordinary network is linear once its factors (gates, spreads, choices, attention weights) are numbers. `Held`
runs a network twice. The first pass sees the picture and writes every factor down. The second pass replays the
same linear steps on rows of anything: on the basis of the input, with no constant, a row gives a column of W; on
zeros, with one constant a row, it gives that constant's contribution. Sources of the choices: B-cos networks
(arXiv 2306.10898: norms, attention), and for gates `y = x * gate(x)` with the gate held. Weights are read by the
names of a `state_dict`, and a constant has the name of the parameter or buffer that it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[["Held", Tensor], Tensor]
Gate = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Answer:
    """One picture: logits (C,), W (C, *x), constants by name (C,)."""

    logits: Tensor
    weights: Tensor
    constants: Mapping[str, Tensor]


class Held:
    """The linear steps of an ordinary network, and its factors, written down once."""

    def __init__(self, state: Mapping[str, Tensor], *, eps: float = 1e-5) -> None:
        self.state = {name: value.double() for name, value in state.items()}
        self.eps = eps
        self.factors: list[Tensor] = []
        self.names: list[str] = []
        self.replaying = False
        self.on: str | bool = True
        self.place = 0

    # -- what is written down ----------------------------------------------------------------

    def factor(self, compute: Callable[[], Tensor]) -> Tensor:
        """What is held: computed from the picture in the first pass, replayed in later ones."""
        if not self.replaying:
            self.factors.append(compute())
        self.place += 1
        return self.factors[self.place - 1]

    def amount(self, name: str, like: Tensor) -> Tensor:
        """How much of a constant each row gets: all in the first pass; then row j gets constant j, or no row any."""
        if not self.replaying:
            self.names += [name] * (name not in self.names)
            return like.new_ones(1)
        rows = like.new_zeros(len(like), *[1] * (like.dim() - 1))
        if self.on:
            rows[self.names.index(name)] = 1
        return rows

    def plus(self, name: str, x: Tensor, value: Tensor | None = None) -> Tensor:
        """x + constant, where the network has one of that name."""
        value = self.state.get(name) if value is None else value
        return x if value is None else x + self.amount(name, x) * value

    # -- linear maps -------------------------------------------------------------------------

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x·Aᵀ + bias over the last axis."""
        return self.plus(name + ".bias", x @ self.state[name + ".weight"].t())

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        """A convolution with zeros around, and its bias."""
        y = F.conv2d(x, self.state[name + ".weight"], stride=stride, padding=padding, groups=groups)
        bias = self.state.get(name + ".bias")
        return y if bias is None else self.plus(name + ".bias", y, bias.reshape(-1, 1, 1))

    def max_pool(self, x: Tensor, size: int, stride: int, padding: int) -> Tensor:
        """The largest of each patch: which one that was on the picture is held."""
        n, c, h, w = x.shape
        sides = [(side + 2 * padding - size) // stride + 1 for side in (h, w)]

        def patches(fill: float) -> Tensor:
            wide = F.pad(x, [padding] * 4, value=fill)
            return F.unfold(wide, size, stride=stride).reshape(n, c, size * size, -1)

        which = self.factor(lambda: patches(-math.inf).argmax(2, keepdim=True))
        return patches(0.0).gather(2, which.expand(n, -1, -1, -1)).reshape(n, c, *sides)

    # -- norms -------------------------------------------------------------------------------

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Running statistics: a fixed factor a channel; the running mean and the bias are constants."""
        weight, bias, mean, var = (
            self.state[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / (var + self.eps).sqrt()
        return self.plus(name + ".bias", self.plus(name + ".running_mean", x * scale, -mean * scale), bias)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """Over the last axis: the mean is linear, the spread is held, the bias is a constant."""
        spread = self.factor(lambda: 1 / (x.var(-1, correction=0, keepdim=True) + self.eps).sqrt())
        return self.plus(name + ".bias", (x - x.mean(-1, keepdim=True)) * spread * self.state[name + ".weight"])

    def rms_norm(self, name: str, x: Tensor) -> Tensor:
        """Over the last axis: x over its root mean square, which is held."""
        spread = self.factor(lambda: 1 / (x.square().mean(-1, keepdim=True) + self.eps).sqrt())
        return x * spread * self.state[name + ".weight"]

    def group_norm(self, name: str, x: Tensor, groups: int) -> Tensor:
        """Over the channels of a group and all positions; as many groups as channels: instance norm."""
        parts = x.reshape(len(x), groups, -1)
        spread = self.factor(lambda: 1 / (parts.var(-1, correction=0, keepdim=True) + self.eps).sqrt())
        y = ((parts - parts.mean(-1, keepdim=True)) * spread).reshape(x.shape)
        weight, bias = (self.state[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("weight", "bias"))
        return self.plus(name + ".bias", y * weight, bias)

    # -- gates and attention -----------------------------------------------------------------

    def gated(self, gate: Gate, x: Tensor) -> Tensor:
        """x · gate(x), the gate held."""
        return x * self.factor(lambda: gate(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """softmax(q·kᵀ/√d + added)·v over (..., T, d): all of the softmax is held, the values are linear."""
        weights = self.factor(lambda: (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + added).softmax(-1))
        return weights @ v

    def multihead(self, name: str, x: Tensor, heads: int) -> Tensor:
        """Self-attention of tokens (N, T, C) with the weights of `nn.MultiheadAttention`."""
        weight = self.state[name + ".in_proj_weight"]
        q, k, v = self.plus(name + ".in_proj_bias", x @ weight.t()).chunk(3, -1)
        y = self.attend(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads))
        return self.linear(name + ".out_proj", y.transpose(-2, -3).flatten(-2))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., T, heads·d) → (..., heads, T, d)."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-2, -3)


def step(x: Tensor) -> Tensor:
    """ReLU's gate: 1 where x > 0."""
    return (x > 0).to(x.dtype)


def phi(x: Tensor) -> Tensor:
    """GELU's gate: the normal distribution."""
    return 0.5 * torch.erfc(-x / math.sqrt(2))


def sigmoid(x: Tensor) -> Tensor:
    """SiLU's gate."""
    return 1 / (1 + (-x).exp())


def hard_sigmoid(x: Tensor) -> Tensor:
    """Hard swish's gate: a line from 0 at -3 to 1 at 3."""
    return ((x + 3) / 6).clamp(0, 1)


def explain(network: Network, held: Held, x: Tensor, *, rows: int = 256) -> Answer:
    """Logits, W and constants of one picture (1, *x)."""
    logits = network(held, x)[0]
    held.replaying = True

    def replay(inputs: Tensor, on: bool) -> Tensor:
        held.place, held.on = 0, on
        return network(held, inputs)

    basis = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    columns = torch.cat([replay(part, False) for part in basis.split(rows)])
    constants = replay(x.new_zeros(len(held.names), *x.shape[1:]), True)
    weights = columns.t().reshape(-1, *x.shape[1:])
    return Answer(logits, weights, dict(zip(held.names, constants, strict=True)))
