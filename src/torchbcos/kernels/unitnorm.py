"""Filters brought to unit norm, as one step of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from torchbcos.kernels.lengths import overflow_shown

__all__ = ["filter_norms", "unit_gain", "unit_norm"]


def unit_norm(weight: Tensor) -> Tensor:
    """`w / ‖w‖` for every filter of (O, ...); a zero filter stays zero."""
    unit: Tensor = _UnitNorm.apply(weight)
    return unit


def filter_norms(weight: Tensor) -> Tensor:
    """Euclidean norm of every filter (O, 1, ...), one where it is zero."""
    flat = weight.flatten(1)
    wide = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
    norm = torch.linalg.vector_norm(wide, dim=1)
    norm = torch.where(norm == 0, torch.ones_like(norm), norm)
    return overflow_shown(norm.to(weight.dtype)).reshape(-1, *[1] * (weight.dim() - 1))


def unit_gain(weight: Tensor) -> Tensor:
    """`1 / ‖w‖²` of every filter (O,): what an output of degree 2 in its filter is multiplied by to be that of `w / ‖w‖`."""
    norm: Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())))
    # one for a zero filter, whose output is zero; a square that vanishes or overflows makes outputs NaN, not zero
    squares = torch.where(norm == 0, 1.0, norm * norm)
    return overflow_shown(squares).reciprocal_()


class _UnitNorm(Function):
    """`w / ‖w‖` with the gradient `(g - ŵ (ŵ·g)) / ‖w‖`: two passes over the weights instead of six."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        norm = filter_norms(weight)
        unit = weight / norm
        ctx.save_for_backward(weight, unit, norm)
        return unit

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        weight, unit, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: by operations that have derivatives
            live: Tensor = torch.autograd.grad(weight / filter_norms(weight), weight, g, create_graph=True)[0]
            return live
        along = (unit * g).flatten(1).sum(1).reshape(norm.shape)
        gradient: Tensor = torch.addcmul(g, unit, along, value=-1).div_(norm)
        return gradient
