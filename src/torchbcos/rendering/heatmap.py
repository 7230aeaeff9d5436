"""Signed contribution maps (blue, white, red), and explanations laid over a photo.

Shapes: H W space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering._checks import Floats, check_percentile, real_tensor, upper_limit

__all__ = [
    "SlicePlaces", "check_slices", "heat_limit", "heatmap", "over", "overlay", "photo", "slice_indices", "slice_places",
    "telling_slices",
]  # fmt: skip

_STRIP_ROWS = 64  # height of the picture of a 1-D signal
_STRIP_COLUMNS = (256, 2048)  # its least width, and its greatest
_MOST_SLICES = 16
_GAP, _GAP_GREY = 2, 0.75  # lines between slices; not white, for white means zero


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
        >>> heatmap(torch.tensor([[-1.0, 0.0, 1.0]]), percentile=100).tolist()
        [[[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]
    """
    values = _values(contributions)
    limit = heat_limit(contributions, percentile=percentile)
    if values.ndim == 3:
        chosen = check_slices(contributions, slices, axis)
        values = np.moveaxis(values, axis, 0)[list(chosen)]
    v = np.clip(np.clip(values, -limit, limit) / (limit or 1.0), -1, 1)  # first the range: no overflow
    picture = np.stack([1 - np.maximum(-v, 0), 1 - np.abs(v), 1 - np.maximum(v, 0)], axis=-1).astype(np.float32)
    if picture.ndim == 4:
        return _grid(picture)
    return _strip(picture) if picture.ndim == 2 else picture


def heat_limit(contributions: Tensor, *, percentile: float = 99.5) -> float:
    """The contribution that `heatmap` draws in full colour; 0 for a map of zeros.

    Args:
        contributions: As for `heatmap`.
        percentile: As for `heatmap`.

    Returns:
        The limit, in the unit of the contributions; the map covers [-limit, limit].

    Example:
        >>> heat_limit(torch.tensor([[-4.0, 1.0]]), percentile=100)
        4.0
    """
    check_percentile(percentile)
    return upper_limit(np.abs(_values(contributions)), percentile)


def slice_indices(depth: int) -> tuple[int, ...]:
    """Evenly spaced slices of a volume: all, or 16 with both ends.

    >>> slice_indices(4), slice_indices(31)[:4]
    ((0, 1, 2, 3), (0, 2, 4, 6))
    """
    return _spread(depth, min(depth, _MOST_SLICES))


def _spread(depth: int, shown: int) -> tuple[int, ...]:
    return tuple(round(i * (depth - 1) / max(shown - 1, 1)) for i in range(shown))


def telling_slices(contributions: Tensor, *, axis: int = 0) -> tuple[int, ...]:
    """The slices of a volume that `heatmap` shows: all, or the 16 with the largest sum of |contributions|, in their order.

    Args:
        contributions: (D, H, W).
        axis: The axis that is cut into slices.

    >>> volume = torch.zeros(64, 2, 2)
    >>> volume[40:56] = 1
    >>> telling_slices(volume)[:3]
    (40, 41, 42)
    """
    sizes = np.moveaxis(np.abs(_values(contributions)), axis, 0).reshape(contributions.shape[axis], -1).sum(1)
    least = np.sort(sizes)[::-1][: min(len(sizes), _MOST_SLICES)][-1]
    sure, ties = np.flatnonzero(sizes > least), np.flatnonzero(sizes == least)
    even = ties[list(_spread(len(ties), min(len(sizes), _MOST_SLICES) - len(sure)))]  # among equals those far apart
    return tuple(sorted(int(i) for i in (*sure, *even)))


def check_slices(contributions: Tensor, slices: Sequence[int] | None, axis: int) -> tuple[int, ...]:
    """The slices that are drawn of a volume, counted from 0.

    Raises:
        InputError: There is no such axis or slice, or no slice at all.
    """
    if axis not in (0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, an axis of the volume {tuple(contributions.shape)}, got {axis!r}.")
    if slices is None:
        return telling_slices(contributions, axis=axis)
    depth = contributions.shape[axis]
    chosen = tuple(slices)
    wrong = [i for i in chosen if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not -depth <= i < depth]
    if wrong or not chosen:
        what = repr(wrong[0]) if wrong else "none"
        raise InputError(f"slices must be whole numbers from 0 to {depth - 1}, of axis {axis} of the volume; got {what}.")
    return tuple(int(i) % depth for i in chosen)


def overlay(image: Tensor | NDArray[Any], explanation: NDArray[Any], *, strength: float = 0.45) -> Floats:
    """Lay an explanation over a pale grey copy of the photo.

    An `rgba` picture is composed by its own opacity; a heat map by how far it is from white.

    Args:
        image: The photo, (3, H, W) tensor in [0, 1], or (H, W, 3) array, uint8 or float in [0, 1].
        explanation: (H, W, 4) from `rgba`, or (H, W, 3) from `heatmap`.
        strength: How dark the photo stays: 0 is white paper, 1 the grey photo itself.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: Shapes do not fit, or `strength` outside [0, 1].
        ArgumentTypeError: `image` or `explanation` is neither tensor nor array.

    Example:
        >>> overlay(torch.zeros(3, 4, 5), np.ones((4, 5, 3), np.float32)).shape
        (4, 5, 3)
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength must lie in [0, 1], got {strength}.")
    picture = photo(image)
    if not isinstance(explanation, np.ndarray):
        raise ArgumentTypeError(f"explanation must be an array, got {type(explanation).__name__}.")
    if explanation.ndim != 3 or explanation.shape[2] not in (3, 4) or explanation.shape[:2] != picture.shape[:2]:
        raise InputError(
            f"explanation must be ({picture.shape[0]}, {picture.shape[1]}, 3 or 4) as the photo, got {tuple(explanation.shape)}."
        )
    grey = (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    paper = 1 - strength * (1 - grey)
    if explanation.shape[2] == 4:
        return over(explanation, paper)
    # a heat map is full·a + white·(1 - a) with a = 1 - its least channel: put the paper where the white was
    white = explanation.min(axis=-1, keepdims=True)
    return np.asarray(np.clip(explanation - white * (1 - paper), 0, 1), np.float32)


def over(picture: NDArray[Any], paper: float | NDArray[Any] = 1.0) -> Floats:
    """Compose an (H, W, 4) picture over paper (1: white), giving (H, W, 3) float32."""
    alpha = picture[..., 3:]
    return np.asarray(picture[..., :3] * alpha + paper * (1 - alpha), np.float32)


def photo(image: Tensor | NDArray[Any]) -> Floats:
    """A photo as (H, W, 3) float32 in [0, 1].

    Args:
        image: (3, H, W) tensor in [0, 1], or (H, W, 3) array, uint8 or float in [0, 1].

    Returns:
        The photo; values outside [0, 1] are cut.

    Raises:
        InputError: Another shape, or NaN.
        ArgumentTypeError: Neither tensor nor array.
    """
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    values = real_tensor(image, "image").float()
    if values.ndim != 3 or values.shape[0] != 3:
        raise InputError(f"image must be a (3, H, W) tensor or an (H, W, 3) array, got {tuple(values.shape)} as tensor.")
    if not image.is_floating_point() and image.dtype != torch.uint8:
        raise InputError(f"image must be float in [0, 1] or uint8, got {image.dtype}.")
    if image.dtype == torch.uint8:
        values = values / 255
    return np.ascontiguousarray(values.clamp(0, 1).permute(1, 2, 0).cpu().numpy())


def _values(contributions: Tensor) -> NDArray[Any]:
    # float64: the limit of a map of tiny numbers falls between two float32
    tensor = real_tensor(contributions, "contributions").cpu().double()
    if tensor.ndim not in (1, 2, 3):
        raise InputError(
            f"heatmap draws one image and one target: expected (L,), (H, W) or (D, H, W), got {tuple(tensor.shape)}. "
            "Pick one with contributions[i, k]."
        )
    if tensor.ndim == 1 and tensor.numel() > _STRIP_COLUMNS[1]:
        # sums, not samples: what a column shows is what its stretch of the signal contributes
        group = math.ceil(tensor.numel() / _STRIP_COLUMNS[1])
        padded = torch.nn.functional.pad(tensor, (0, -tensor.numel() % group))
        tensor = padded.reshape(-1, group).sum(1)
    return tensor.numpy()


def _strip(colours: Floats) -> Floats:
    repeat = math.ceil(_STRIP_COLUMNS[0] / len(colours))
    return np.tile(colours.repeat(repeat, axis=0), (_STRIP_ROWS, 1, 1))


SlicePlaces = tuple[tuple[int, int], ...]


def slice_places(count: int, height: int, width: int) -> SlicePlaces:
    """Top and left of each slice in the grid that `heatmap` draws of slices of that size.

    >>> slice_places(3, 5, 7)
    ((0, 0), (0, 9), (7, 0))
    """
    columns = math.ceil(math.sqrt(count))
    return tuple((i // columns * (height + _GAP), i % columns * (width + _GAP)) for i in range(count))


def _grid(shown: Floats) -> Floats:
    count, height, width = shown.shape[:3]
    places = slice_places(count, height, width)
    bottom, right = max(top for top, _ in places) + height, max(left for _, left in places) + width
    canvas = np.full((bottom, right, 3), _GAP_GREY, np.float32)
    for (top, left), picture in zip(places, shown, strict=True):
        canvas[top : top + height, left : left + width] = picture
    return canvas
