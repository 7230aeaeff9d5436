"""Explanations laid over what the network saw.

Shapes: C channels, H W (or *S) space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering._checks import STRIP_COLUMNS, Floats, real_tensor
from torchbcos.rendering.columns import envelope, group_size
from torchbcos.rendering.heatmap import STRIP_ROWS
from torchbcos.rendering.slices import check_slices, slice_grid

__all__ = ["SCAN_STRENGTH", "in_colour", "numbers", "over", "overlay", "photo"]

SCAN_STRENGTH = 0.7  # of a scan below colours: most of it is dark, and its tissue must stay seen
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_INK = np.array([0x2B, 0x2F, 0x36], np.float32) / 255  # of a signal's trace
_TINT = 0.6  # how strong the colours behind a trace stay


def overlay(
    image: Tensor | NDArray[Any], explanation: NDArray[Any], *, strength: float = 0.45, slices: Sequence[int] | None = None,
    axis: int = 0,
) -> Floats:  # fmt: skip
    """Lay an explanation over a pale grey copy of what the network saw.

    An `rgba` picture is composed by its own opacity; a heat map by how far it is from white. A signal is drawn as a dark trace
    over the colours of its heat map, one strip a channel.

    Args:
        image: A tensor with its channels first, or an array with its channels last; uint8 or float in [0, 1]. A picture
            (3, H, W), (1, H, W) or of other channels, whose mean is shown; a volume (C, D, H, W); a signal (C, L) of any range.
        explanation: (H, W, 4) from `rgba`, or (H, W, 3) from `heatmap`.
        strength: How dark the photo stays: 0 is white paper, 1 the grey photo itself.
        slices: Of a volume, those that `heatmap` has drawn.
        axis: Of a volume, the axis that is cut into slices.

    Returns:
        (H, W, 3) float32 in [0, 1]; as large as the explanation, for a signal that height for each channel.

    Raises:
        InputError: Shapes do not fit, or `strength` outside [0, 1].
        ArgumentTypeError: `image` or `explanation` is neither tensor nor array.

    Example:
        >>> overlay(torch.zeros(3, 4, 5), np.ones((4, 5, 3), np.float32)).shape
        (4, 5, 3)
        >>> overlay(torch.zeros(1, 9, 4, 5), np.ones((4, 12, 3), np.float32), slices=[2, 7]).shape
        (4, 12, 3)
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength must lie in [0, 1], got {strength}.")
    picture = _underlay(image, slices, axis)
    if not isinstance(explanation, np.ndarray):
        raise ArgumentTypeError(f"explanation must be an array, got {type(explanation).__name__}.")
    if explanation.ndim != 3 or explanation.shape[2] not in (3, 4) or explanation.shape[:2] != picture.shape[-3:-1]:
        raise InputError(
            f"explanation must be ({picture.shape[-3]}, {picture.shape[-2]}, 3 or 4) as the photo, got "
            f"{tuple(explanation.shape)}."
        )
    if picture.ndim == 4:
        return _over_traces(picture, explanation if explanation.shape[2] == 3 else over(explanation))
    paper = 1 - strength * (1 - (picture @ _LUMA)[..., None])
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
        image: (3, H, W) tensor in [0, 1], or (H, W, 3) array, uint8 or float in [0, 1]; or one channel of grey in place of three.

    Returns:
        The photo; values outside [0, 1] are cut.

    Raises:
        InputError: Another shape, or NaN.
        ArgumentTypeError: Neither tensor nor array.
    """
    values = numbers(image)
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        raise InputError(
            "image must be a (3, H, W) tensor or an (H, W, 3) array, or have one channel of grey; "
            f"got {tuple(values.shape)} as tensor."
        )
    return in_colour(values)


def numbers(image: Tensor | NDArray[Any]) -> Tensor:
    """A tensor, or an array with its channels last, as float32 with the channels first; bytes become numbers in [0, 1].

    Raises:
        InputError: NaN, infinity, nothing in it, or whole numbers that are no bytes.
        ArgumentTypeError: Neither tensor nor array.

    >>> numbers(np.full((4, 5, 3), 255, np.uint8)).shape
    torch.Size([3, 4, 5])
    """
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    values = real_tensor(image, "image").float()
    if not image.is_floating_point() and image.dtype != torch.uint8:
        raise InputError(f"image must be float in [0, 1] or uint8, got {image.dtype}.")
    return values if image.is_floating_point() else values / 255


def in_colour(values: Tensor) -> Floats:
    """A picture or volume of any channels as (*S, 3) float32 in [0, 1]: three are colours, one is grey, of others the mean.

    >>> in_colour(torch.tensor([0.0, 0.5]).reshape(2, 1, 1, 1)).tolist()
    [[[[0.25, 0.25, 0.25]]]]
    """
    values = values.clamp(0, 1)
    if values.shape[0] != 3:
        values = values.mean(0, keepdim=True).expand(3, *values.shape[1:])
    return np.ascontiguousarray(values.movedim(0, -1).cpu().numpy())


def _underlay(image: Tensor | NDArray[Any], slices: Sequence[int] | None, axis: int) -> Floats:
    """What lies below: a picture (H, W, 3), a volume's slices as one, or a strip for each channel of a signal (C, 64, n, 3)."""
    values = numbers(image)
    if values.ndim == 2:
        return _traces(values)
    if values.ndim not in (3, 4):
        raise InputError(
            f"image must be a tensor (C, L), (C, H, W) or (C, D, H, W), or an array with its channels last; got "
            f"{tuple(values.shape)} as tensor."
        )
    if values.ndim == 3:
        return in_colour(values)
    if slices is None:
        raise InputError(
            "overlay of a volume needs slices, those of its heat map: slices=telling_slices(contributions) for both."
        )
    chosen = check_slices(values[0], slices, axis)
    return slice_grid(in_colour(values.movedim(axis + 1, 1)[:, list(chosen)]))


def _traces(values: Tensor) -> Floats:
    """(C, 64, n, 3): for each channel ink where its trace runs, white elsewhere, in the columns of the heat map."""
    group = group_size(values.shape[1], STRIP_COLUMNS[1])
    low, high = envelope(values.double().cpu().numpy(), group)
    reach = np.maximum(high.max(-1, keepdims=True) - low.min(-1, keepdims=True), 1e-30)
    base = low.min(-1, keepdims=True)
    top, bottom = ((STRIP_ROWS - 5) * (1 - (edge - base) / reach) + 2 for edge in (high, low))
    top[:, 1:], bottom[:, 1:] = np.minimum(top[:, 1:], bottom[:, :-1]), np.maximum(bottom[:, 1:], top[:, :-1])  # joined
    rows = np.arange(STRIP_ROWS)[None, :, None]
    ink = ((rows >= np.round(top)[:, None]) & (rows <= np.round(bottom)[:, None] + 1))[..., None]
    picture = np.where(ink, _INK, np.float32(1)).astype(np.float32)
    return picture.repeat(-(-STRIP_COLUMNS[0] // low.shape[1]), axis=2)


def _over_traces(strips: Floats, colours: NDArray[Any]) -> Floats:
    paper = 1 - _TINT * (1 - colours)
    return np.concatenate([np.where((strip < 1).any(-1, keepdims=True), strip, paper) for strip in strips]).astype(np.float32)
