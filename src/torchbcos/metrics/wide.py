"""Sums over whole maps in float64: a mean of 50,000 pixels in float32 depends on their order."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["scaled", "wide"]


def wide(values: Tensor) -> Tensor:
    """The same numbers in float64; in float32 on Apple's chips, which have no more bits.

    >>> wide(torch.tensor([1.0])).dtype
    torch.float64
    """
    return values.to(torch.float64 if values.device.type != "mps" else torch.float32)


def scaled(maps: Tensor) -> Tensor:
    """Maps (N, *S) as `wide`, with magnitudes below 2: no sum overflows, and what was equal to a threshold still is.

    >>> scaled(torch.tensor([[1.0, -6.0], [0.0, 0.0]]))
    tensor([[ 0.2500, -1.5000],
            [ 0.0000,  0.0000]], dtype=torch.float64)
    """
    found = wide(maps)
    largest = found.abs().flatten(1).amax(1).view(-1, *(1,) * (maps.dim() - 1))
    power = largest / (2 * torch.frexp(largest).mantissa)  # of two, so that the quotient is exact
    return found / torch.where(largest > 0, power, 1.0)
