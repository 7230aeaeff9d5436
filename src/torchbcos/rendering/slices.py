"""Slices of a volume: which are shown, and where each stands in their grid.

Shapes: D slices of a volume, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.rendering._checks import Floats, map_values

__all__ = ["MOST_SLICES", "SlicePlaces", "check_slices", "slice_grid", "slice_indices", "slice_places", "telling_slices"]

MOST_SLICES = 16
_GAP, _GAP_GREY = 2, 0.75  # lines between slices; not white, for white means zero


def slice_indices(depth: int) -> tuple[int, ...]:
    """Evenly spaced slices of a volume: all, or 16 with both ends.

    >>> slice_indices(4), slice_indices(31)[:4]
    ((0, 1, 2, 3), (0, 2, 4, 6))
    """
    return _spread(depth, min(depth, MOST_SLICES))


def _spread(depth: int, shown: int) -> tuple[int, ...]:
    return tuple(round(i * (depth - 1) / max(shown - 1, 1)) for i in range(shown))


def telling_slices(contributions: Tensor, *, axis: int = 0, most: int = MOST_SLICES) -> tuple[int, ...]:
    """The slices of a volume that `heatmap` shows: all, or the 16 with the largest sum of |contributions|, in their order.

    Args:
        contributions: (D, H, W).
        axis: The axis that is cut into slices.
        most: How many slices at most.

    >>> import torch
    >>> volume = torch.zeros(64, 2, 2)
    >>> volume[40:56] = 1
    >>> telling_slices(volume)[:3]
    (40, 41, 42)
    """
    sizes = np.moveaxis(np.abs(map_values(contributions)), axis, 0).reshape(contributions.shape[axis], -1).sum(1)
    least = np.sort(sizes)[::-1][: min(len(sizes), most)][-1]
    sure, ties = np.flatnonzero(sizes > least), np.flatnonzero(sizes == least)
    even = ties[list(_spread(len(ties), min(len(sizes), most) - len(sure)))]  # among equals those far apart
    return tuple(sorted(int(i) for i in (*sure, *even)))


def check_slices(
    contributions: Tensor, slices: Sequence[int] | None, axis: int, most: int = MOST_SLICES
) -> tuple[int, ...]:  # fmt: skip
    """The slices that are drawn of a volume, counted from 0.

    Raises:
        InputError: There is no such axis or slice, or no slice at all.
    """
    if axis not in (0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, an axis of the volume {tuple(contributions.shape)}, got {axis!r}.")
    if slices is None:
        return telling_slices(contributions, axis=axis, most=most)
    depth = contributions.shape[axis]
    chosen = tuple(slices)
    wrong = [i for i in chosen if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not -depth <= i < depth]
    if wrong or not chosen:
        what = repr(wrong[0]) if wrong else "none"
        raise InputError(f"slices must be whole numbers from 0 to {depth - 1}, of axis {axis} of the volume; got {what}.")
    return tuple(int(i) % depth for i in chosen)


SlicePlaces = tuple[tuple[int, int], ...]


def slice_places(count: int, height: int, width: int, columns: int | None = None) -> SlicePlaces:
    """Top and left of each slice in the grid that `heatmap` draws of slices of that size; `columns` in a row, or a square.

    >>> slice_places(3, 5, 7)
    ((0, 0), (0, 9), (7, 0))
    """
    columns = columns or math.ceil(math.sqrt(count))
    return tuple((i // columns * (height + _GAP), i % columns * (width + _GAP)) for i in range(count))


def slice_grid(shown: Floats, columns: int | None = None) -> Floats:
    """Slices (n, H, W, 3) as one picture."""
    count, height, width = shown.shape[:3]
    places = slice_places(count, height, width, columns)
    bottom, right = max(top for top, _ in places) + height, max(left for _, left in places) + width
    canvas = np.full((bottom, right, 3), _GAP_GREY, np.float32)
    for (top, left), picture in zip(places, shown, strict=True):
        canvas[top : top + height, left : left + width] = picture
    return canvas
