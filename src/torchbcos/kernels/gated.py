"""Activations and norms in an explanation, one step of autograd each: the usual forward pass, a held factor backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.torch_private import transformed
from torchbcos.kernels.blocks import blocks

__all__ = ["Gated", "GatedInPlace", "HeldBatchNorm", "HeldGroupNorm", "clamp_gate", "gelu_gate", "times_gate"]

_Gate = Callable[[Tensor], Tensor]
# added to x where f(x) / x is wanted: too small to show beside any x that is not itself as small, and then f(x) / x is f'(0)
_OFF_ZERO = {torch.float32: 1.1111e-30, torch.bfloat16: 1.1111e-30, torch.float64: 1.1111e-200}


class Gated(Function):
    """`f(x)`, whose gradient is `gate(x)` with the gate a constant: linear in x, and x alone is kept.

    `Gated.apply(x, function, gate, alone)`: `gate` gives a new tensor each time, `alone` is as in `times_gate`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: _Gate, gate: _Gate, alone: bool = False) -> Tensor:
        ctx.gate, ctx.alone = gate, alone
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return times_gate(g, x, ctx.gate, alone=ctx.alone), None, None, None


class GatedInPlace(Function):
    """The same where `function` writes its result into x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: _Gate, gate: _Gate, alone: bool = False) -> Tensor:
        ctx.gate, ctx.alone = gate, alone
        ctx.save_for_backward(x.clone())
        ctx.mark_dirty(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return times_gate(g, x, ctx.gate, alone=ctx.alone), None, None, None


def times_gate(g: Tensor, x: Tensor, gate: _Gate, *, alone: bool = True) -> Tensor:
    """`g · gate(x)` with the gate a constant, block by block where the two lie alike in memory.

    Args:
        alone: whether each number of the gate is made of one number of x, wherever it stands.

    >>> times_gate(torch.ones(2), torch.tensor([-1.0, 1.0]), lambda t: (t > 0).float())
    tensor([0., 1.])
    """
    rows = _flat(g, x) if alone and not g.requires_grad and not transformed() else None
    if rows is None:
        with torch.no_grad():
            factor = gate(x)
        return g * factor
    out = torch.empty_like(x)
    given, found, to = *rows, (_flat(out, x) or rows)[0]
    with torch.no_grad():
        for block in blocks(x.numel(), 1):
            torch.mul(gate(found[block]), given[block], out=to[block])
    return out


def _flat(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor] | None:
    """Two tensors as rows of numbers in the order of memory, which must be the same order; None where it is not."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return None
    if a.is_contiguous() and b.is_contiguous():
        return a.view(-1), b.view(-1)
    last = torch.channels_last
    if a.dim() == 4 and a.is_contiguous(memory_format=last) and b.is_contiguous(memory_format=last):
        return a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1)
    return None


def gelu_gate(x: Tensor, approximate: str = "none") -> Tensor:
    """`gelu(x) / x`, the normal distribution Φ(x), as exact as the GELU of torch: `gate · x` is what it gave.

    >>> gelu_gate(torch.tensor([-1.0, 0.0, 30.0]))
    tensor([0.1587, 0.5000, 1.0000])
    """
    off = _OFF_ZERO.get(x.dtype)
    moved = x + off if off is not None else x.float() + _OFF_ZERO[torch.float32]
    return F.gelu(moved, approximate=approximate).div_(moved).to(x.dtype)


def clamp_gate(x: Tensor, most: float) -> Tensor:
    """`clamp(x, 0, most) / x`, 0 at 0: the gate of ReLU6 and of any hard tanh from 0 on.

    >>> clamp_gate(torch.tensor([0.0, 3.0, 12.0]), 6.0)
    tensor([0.0000, 1.0000, 0.5000])
    """
    off = _OFF_ZERO.get(x.dtype)
    moved = x + off if off is not None else x.float() + _OFF_ZERO[torch.float32]
    return x.clamp(0, most).to(moved.dtype).div_(moved).to(x.dtype)


class HeldBatchNorm(Function):
    """`(x - mean) / sqrt(var + eps) · weight + bias` with given statistics: linear in x, but for constants.

    torch's own backward pass (seen in 2.14, on a CPU) is wrong for a single image whose gradient was transposed, as between
    a convolutional stem and tokens: the gradient's strides (C, 1, W·C, C) are read as if the image were contiguous.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        scale = (var + eps).rsqrt()
        ctx.save_for_backward(scale if weight is None else scale * weight)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return g * scale.to(g.dtype).reshape(-1, *[1] * (g.dim() - 2)), None, None, None, None, None


class HeldGroupNorm(Function):
    """`(x - mean) · rstd · weight + bias` over groups of channels, with rstd a constant: linear in x, but for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        n, c = x.shape[:2]
        given = x.contiguous()
        out, _, rstd = torch.native_group_norm(given, weight, bias, n, c, given[0, 0].numel(), groups, eps)
        # a variance that overflowed would make W zero
        ctx.save_for_backward(rstd.masked_fill(rstd == 0, math.nan), weight)
        ctx.groups = groups
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        rstd, weight = ctx.saved_tensors
        scaled = g if weight is None else g * weight.reshape(-1, *[1] * (g.dim() - 2))
        scaled = scaled.reshape(*rstd.shape, -1) * rstd.unsqueeze(-1).to(g.dtype)
        return (scaled - scaled.mean(-1, keepdim=True)).reshape(g.shape), None, None, None, None
