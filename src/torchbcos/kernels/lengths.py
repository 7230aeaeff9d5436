"""Lengths that are never zero: the root has no derivative there, and nothing is divided by them with an infinite result."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["length", "never_zero"]


def never_zero(squares: Tensor) -> Tensor:
    """Squared lengths, the smallest normal number in place of zero: `x / ‖x‖` of zeros is zero, and so is its gradient."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny)


def length(x: Tensor) -> Tensor:
    """`‖x‖` over the last axis, (..., 1), at least the root of that number; for steps that autograd does not record."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.clamp_min_(torch.finfo(x.dtype).tiny ** 0.5)
