"""Layer norm in an explanation, as one step of autograd."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

__all__ = ["FrozenLayerNorm"]


class FrozenLayerNorm(Function):
    """`(x - mean) · rstd · weight + bias` with rstd a constant: linear in x but for the bias, and one number a token is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float, bias: Tensor | None = None) -> Tensor:
        out, _, rstd = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(rstd.masked_fill(rstd == 0, math.nan), weight)  # a variance that overflowed would make W zero
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        rstd, weight = ctx.saved_tensors
        scaled = g * rstd if weight is None else (g * weight).mul_(rstd)
        return scaled.sub_(scaled.mean(-1, keepdim=True)), None, None, None
