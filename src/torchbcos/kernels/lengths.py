"""Lengths to divide by: never zero, where a root has no derivative and a quotient is infinite; never infinite in silence."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["inverse", "length", "never_zero", "overflow_shown"]


def never_zero(squares: Tensor) -> Tensor:
    """Squared lengths, the smallest normal number in place of zero: `x / ‖x‖` of zeros is zero, and so is its gradient."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny)


def length(x: Tensor) -> Tensor:
    """`‖x‖` over the last axis, (..., 1), at least the root of that number; for steps that autograd does not record."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.clamp_min_(torch.finfo(x.dtype).tiny ** 0.5)


def inverse(norm: Tensor, norm_eps: float) -> Tensor:
    """`1 / (norm + norm_eps)`, no number where squares overflowed."""
    return norm.add(norm_eps).add_(norm, alpha=0).reciprocal_()  # 0 · ∞ is no number: see `overflow_shown`


def overflow_shown(scale: Tensor) -> Tensor:
    """`scale`, no number in place of infinity: what is divided by infinity is zero, and looks like an answer.

    A picture whose squares overflow would else give W = 0, which adds up.

    >>> overflow_shown(torch.tensor([2.0, torch.inf]))
    tensor([2., nan])
    """
    return torch.add(scale, scale, alpha=0)  # 0 · ∞ is no number; one pass, and no branch that would wait for a device
