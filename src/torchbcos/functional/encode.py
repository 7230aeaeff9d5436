"""Input encoding."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant

__all__ = ["add_inverse"]


@atom()
def add_inverse(x: Tensor, dim: int = 1) -> Tensor:
    """Append the inverse of every channel: `[x, 1 - x]` (arXiv 2306.10898, section 3.2).

    Colours and their brightness are then encoded by direction, so dark pixels can carry
    evidence as well as bright ones. In a network that is explained the one is a named constant.

    Args:
        x: (N, C, *S) in [0, 1], floating point.
        dim: the channel axis; 0 for one picture (C, *S).

    Returns:
        (N, 2C, *S).

    Raises:
        InputError: `x` is not floating point (1 - x would wrap around for uint8).

    >>> add_inverse(torch.full((1, 1, 1), 0.25)).flatten()
    tensor([0.2500, 0.7500])
    """
    if not x.is_floating_point():
        raise InputError(f"add_inverse needs floats in [0, 1], got {x.dtype}: use x.float() / 255.")
    if dim == 0:
        return torch.cat([x, 1 - x])
    return torch.cat([x, add_constant(-x, x.new_ones(()), "inverse")], dim=dim)
