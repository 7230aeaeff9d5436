"""Checks and small numeric helpers that every picture shares.

Shapes: C channels, H W space, L length, D depth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering.columns import column_sums, group_size

__all__ = ["STRIP_COLUMNS", "Floats", "check_percentile", "map_values", "quantile", "real_tensor", "upper_limit"]

STRIP_COLUMNS = (256, 2048)  # of the picture of a 1-D signal: its least width, and its greatest

Floats = NDArray[np.float32]


def real_tensor(value: object, name: str) -> Tensor:
    """`value` as a detached, finite tensor of at least float32; `name` is what the error calls it."""
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}.")
    if value.is_complex():
        raise InputError(f"{name} must hold real numbers, got {value.dtype}.")
    if value.numel() == 0:
        raise InputError(f"{name} has no pixels: its shape is {tuple(value.shape)}.")
    tensor = value.detach().to(torch.promote_types(value.dtype, torch.float32))
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} holds NaN or infinity; look for it in the model's output or the input picture.")
    return tensor


def check_percentile(percentile: float) -> None:
    """Refuse a percentile outside (0, 100]."""
    if not isinstance(percentile, (int, float)) or isinstance(percentile, bool):
        raise ArgumentTypeError(f"percentile must be a number, got {type(percentile).__name__}.")
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must lie in (0, 100], got {percentile}; 99.5 is the paper's.")


def quantile(values: NDArray[Any], fraction: float) -> float:
    """The `fraction` quantile with linear interpolation, as `torch.quantile` defines it, for any number of values.

    >>> quantile(np.array([0.0, 1.0, 2.0, 3.0]), 0.5)
    1.5
    """
    flat = values.reshape(-1)
    position = fraction * (flat.size - 1)
    low = min(math.floor(position), flat.size - 1)
    high = min(low + 1, flat.size - 1)
    below, above = np.partition(flat, (low, high))[[low, high]].astype(np.float64)
    return float(below + (position - low) * (above - below))


def upper_limit(values: NDArray[Any], percentile: float) -> float:
    """The value drawn at full strength: the percentile, or the maximum where the percentile is 0.

    The second case is a map of mostly zeros; dividing by its percentile would give NaN. 0 only if all are 0.
    """
    return quantile(values, percentile / 100) or float(values.max())


def map_values(contributions: Tensor) -> NDArray[Any]:
    """One image's and target's contributions, a long signal's summed in columns."""
    # float64: the limit of a map of tiny numbers falls between two float32
    tensor = real_tensor(contributions, "contributions").cpu().double()
    if tensor.ndim not in (1, 2, 3):
        raise InputError(
            f"heatmap draws one image and one target: expected (L,), (H, W) or (D, H, W), got {tuple(tensor.shape)}. "
            "Pick one with contributions[i, k]."
        )
    if tensor.ndim == 1 and tensor.numel() > STRIP_COLUMNS[1]:
        # sums, not samples: what a column shows is what its stretch of the signal contributes
        return column_sums(tensor.numpy(), group_size(tensor.numel(), STRIP_COLUMNS[1]))
    return tensor.numpy()
