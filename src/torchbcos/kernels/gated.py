"""Activations and norms in an explanation, one step of autograd each: the usual forward pass, a held factor in the backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

__all__ = ["Gated", "GatedInPlace", "HeldBatchNorm", "HeldGroupNorm"]


class Gated(Function):
    """`f(x)`, whose gradient is `gate(x)` with the gate a constant: linear in x, and x alone is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.gate = gate
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            factor = ctx.gate(x)
        return g * factor, None, None


class GatedInPlace(Function):
    """The same where `function` writes into x: what comes out are the bits that it writes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.gate = gate
        ctx.save_for_backward(x.clone())
        function(x)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            factor = ctx.gate(x)
        return g * factor, None, None


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
