"""Sums over whole maps in float64: a mean of 50,000 pixels in float32 depends on their order."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["wide"]


def wide(values: Tensor) -> Tensor:
    """The same numbers in float64; in float32 on Apple's chips, which have no more bits.

    >>> wide(torch.tensor([1.0])).dtype
    torch.float64
    """
    return values.to(torch.float64 if values.device.type != "mps" else torch.float32)
