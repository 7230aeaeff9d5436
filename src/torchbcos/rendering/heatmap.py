"""Signed contribution maps: blue, white, red.

Shapes: H W space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchbcos.rendering._checks import STRIP_COLUMNS, Floats, check_percentile, map_values, upper_limit
from torchbcos.rendering.slices import check_slices, slice_grid

__all__ = ["STRIP_ROWS", "heat_colours", "heat_limit", "heatmap"]

STRIP_ROWS = 64  # height of the picture of a 1-D signal


def heatmap(
    contributions: Tensor, *, percentile: float = 99.5, slices: Sequence[int] | None = None, axis: int = 0
) -> Floats:  # fmt: skip
    """Draw signed contributions: blue speaks against the target, white is zero, red speaks for it.

    v = contributions / (percentile of |contributions|), cut to [-1, 1]; colour = (1, 1-v, 1-v) for v >= 0 and
    (1+v, 1+v, 1) below. A percentile of 0 (a map of mostly zeros) gives way to the maximum.

    Args:
        contributions: (H, W); or (L,), drawn as a strip of 64 rows (columns are repeated to at least 256, or summed in
            groups to at most 2048); or (D, H, W), drawn as a grid of slices, row by row, one range for the whole volume.
        percentile: Contributions at and above this percentile of |c| get the full colour; in (0, 100].
        slices: Of a volume, which slices and in which order; None: `telling_slices`, the 16 that carry most.
        axis: Of a volume, the axis that is cut into slices: 0, 1 or 2.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: NaN, infinity, no pixels, more than three axes, or no such slice or axis.
        ArgumentTypeError: Not a tensor.

    Example:
        >>> import torch
        >>> heatmap(torch.tensor([[-1.0, 0.0, 1.0]]), percentile=100).tolist()
        [[[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]
    """
    values = map_values(contributions)
    limit = heat_limit(contributions, percentile=percentile)
    if values.ndim == 3:
        chosen = check_slices(contributions, slices, axis)
        values = np.moveaxis(values, axis, 0)[list(chosen)]
    picture = heat_colours(values, limit)
    if picture.ndim == 4:
        return slice_grid(picture)
    return _strip(picture) if picture.ndim == 2 else picture


def heat_colours(values: NDArray[Any], limit: float) -> Floats:
    """The colour of each contribution, (*, 3), where `limit` and what lies above it get the full one."""
    v = np.clip(np.clip(values, -limit, limit) / (limit or 1.0), -1, 1)  # first the range: no overflow
    return np.stack([1 - np.maximum(-v, 0), 1 - np.abs(v), 1 - np.maximum(v, 0)], axis=-1).astype(np.float32)


def heat_limit(contributions: Tensor, *, percentile: float = 99.5) -> float:
    """The contribution that `heatmap` draws in full colour; 0 for a map of zeros.

    Args:
        contributions: As for `heatmap`.
        percentile: As for `heatmap`.

    Returns:
        The limit, in the unit of the contributions; the map covers [-limit, limit].

    Example:
        >>> import torch
        >>> heat_limit(torch.tensor([[-4.0, 1.0]]), percentile=100)
        4.0
    """
    check_percentile(percentile)
    return upper_limit(np.abs(map_values(contributions)), percentile)


def _strip(colours: Floats) -> Floats:
    repeat = math.ceil(STRIP_COLUMNS[0] / len(colours))
    return np.tile(colours.repeat(repeat, axis=0), (STRIP_ROWS, 1, 1))
