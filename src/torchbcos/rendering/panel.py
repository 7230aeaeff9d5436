"""One picture that tells one decision: photo, explanation, signed map, overlay, and the numbers beside them.

Shapes: H W space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.heatmap import heat_limit, heatmap, over, overlay, photo
from torchbcos.rendering.text import Pen, format_number, format_share

__all__ = ["MARGIN", "Caption", "panel"]

MARGIN, _GUTTER = 36, 24
_HEAD = 142  # height of the question, the predictions and the tiles' labels
_LEGEND, _NUMBERS, _WARNING = 44, 72, 42  # heights of what stands below the tiles
_TILE = (320, 320)  # one of several tiles, width and height at most
_LONE_TILE = (808, 420)  # the only tile
_STRIP = (808, 96)  # a 1-D signal
_LEAST_SIDE = 8  # a picture of 1 by 2000 still has something to look at
_LEAST_WIDTH = 880  # four numbers and a share side by side
_SMALL_SHARE = 0.5
_MOST_PREDICTIONS = 5

_INK, _QUIET, _LINE, _PAPER = "#2b2f36", "#7a808a", "#d9dce1", "#ffffff"
_WARN_INK, _WARN_PAPER = "#8a4b00", "#fff3dc"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The words and numbers of a panel.

    Args:
        title: The file or the picture's name.
        predictions: The highest classes, (name, probability), best first.
        explained: The class that is explained.
        contrast: The class it is compared with, or None.
        value: What is explained: the logit, or the difference of two.
        contribution: Sum of all pixels' contributions.
        constants: Sum of all constants.
        share: What part of the value the pixels carry; NaN where it is not defined.
        residual: value - contribution - constants.
    """

    title: str
    predictions: tuple[tuple[str, float], ...]
    explained: str
    contrast: str | None
    value: float
    contribution: float
    constants: float
    share: float
    residual: float

    @property
    def question(self) -> str:
        """What the panel answers: "Why 'tench'", or "Why 'springer' rather than 'tench'"."""
        return f"Why '{self.explained}'" + (f" rather than '{self.contrast}'" if self.contrast is not None else "")

    @property
    def warning(self) -> str | None:
        """A sentence where the pixels carry less than half: a complete sum of constants explains nothing."""
        if not abs(self.share) < _SMALL_SHARE:  # NaN has no share to warn about
            return None
        what = "logit" if self.contrast is None else "difference"
        return (
            f"The pixels carry only {format_share(self.share)} of this {what}; the rest are constants, which no picture can show."
        )


@dataclass(frozen=True)
class _Tile:
    label: str
    picture: Image.Image
    limit: float | None = None  # a heat map's range, for its legend


def panel(
    caption: Caption,
    contributions: Tensor,
    *,
    image: Tensor | NDArray[Any] | None = None,
    picture: NDArray[Any] | None = None,
    percentile: float = 99.5,
) -> Image.Image:
    """Draw one image and one target: photo, colour picture on white, signed heat map, overlay, and the numbers.

    Args:
        caption: The words and numbers.
        contributions: (H, W), or (L,) or (D, H, W) where there is no photo.
        image: The photo, (3, H, W) tensor in [0, 1] or (H, W, 3) array; None leaves out photo and overlay.
        picture: (H, W, 4) from `rgba`; None leaves it out, and the overlay shows the heat map.
        percentile: For the range of the heat map, in (0, 100].

    Returns:
        An RGB PIL image, white, about 1450 pixels wide with four tiles.

    Raises:
        InputError: Shapes that do not belong together, NaN, or a percentile out of range.
        ArgumentTypeError: `caption` is no Caption, or an argument is no tensor or array.

    Example:
        >>> words = Caption(title="a.jpg", predictions=(("tench", 0.9),), explained="tench", contrast=None,
        ...                 value=2.0, contribution=1.5, constants=0.5, share=0.75, residual=0.0)
        >>> panel(words, torch.randn(8, 8)).mode
        'RGB'
    """
    if not isinstance(caption, Caption):
        raise ArgumentTypeError(f"caption must be a Caption, got {type(caption).__name__}.")
    tiles = _tiles(contributions, image, picture, percentile)
    widths = [_column(tile) for tile in tiles]
    width = max(_LEAST_WIDTH, sum(widths) + _GUTTER * (len(tiles) - 1) + 2 * MARGIN)
    tallest = max(tile.picture.height for tile in tiles)
    height = _HEAD + tallest + _LEGEND + _NUMBERS + (_WARNING if caption.warning else 0) + MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    pen = Pen(ImageDraw.Draw(canvas))
    _head(pen, caption, width - 2 * MARGIN)
    left = MARGIN
    for tile, column in zip(tiles, widths, strict=True):
        _place(canvas, pen, tile, left, _HEAD)
        left += column + _GUTTER
    _numbers(pen, caption, _HEAD + tallest + _LEGEND, width)
    return canvas


def _tiles(
    contributions: Tensor, image: Tensor | NDArray[Any] | None, picture: NDArray[Any] | None, percentile: float
) -> list[_Tile]:
    heat = heatmap(contributions, percentile=percentile)
    limit = heat_limit(contributions, percentile=percentile)
    for name, other in (("image", image), ("picture", picture)):
        if other is not None and contributions.ndim != 2:
            raise InputError(f"{name} needs contributions of shape (H, W), got {tuple(contributions.shape)}.")
    if picture is not None and not isinstance(picture, np.ndarray):
        raise ArgumentTypeError(f"picture must be an array, got {type(picture).__name__}.")
    if picture is not None and (picture.ndim != 3 or picture.shape != (*contributions.shape, 4)):
        raise InputError(f"picture must be {(*contributions.shape, 4)} from rgba, got {tuple(picture.shape)}.")
    shown = None if image is None else photo(image)
    if shown is not None and shown.shape[:2] != tuple(contributions.shape):
        raise InputError(f"image and contributions must have one size, got {shown.shape[:2]} and {tuple(contributions.shape)}.")
    box = _TILE if shown is not None or picture is not None else _LONE_TILE
    tiles = [] if shown is None else [_Tile("Input", _fit(shown, box))]
    if picture is not None:
        tiles.append(_Tile("Explanation", _fit(over(picture), box)))
    tiles.append(_Tile("Contributions", _stretch(heat) if contributions.ndim == 1 else _fit(heat, box), limit))
    if shown is not None:
        tiles.append(_Tile("Overlay", _fit(overlay(shown, heat if picture is None else picture), box)))
    return tiles


def _fit(picture: NDArray[Any], box: tuple[int, int]) -> Image.Image:
    """Scale into the box: small pictures by whole pixels, so that pixels stay pixels, others smoothly."""
    image = Image.fromarray(to_uint8(picture))
    scale = min(box[0] / image.width, box[1] / image.height)
    if scale >= 2:
        scale = math.floor(scale)
    size = [min(most, max(_LEAST_SIDE, round(side * scale))) for side, most in zip(image.size, box, strict=True)]
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC
    return image.resize((size[0], size[1]), method)


def _stretch(strip: NDArray[Any]) -> Image.Image:
    """A signal has no aspect to keep; columns are repeated or averaged, never blended when they are few."""
    image = Image.fromarray(to_uint8(strip))
    few = image.width <= _STRIP[0]
    return image.resize(_STRIP, Image.Resampling.NEAREST if few else Image.Resampling.BOX)


def _column(tile: _Tile) -> int:
    return max(tile.picture.width, 200)  # room for the label above and the legend below


def _head(pen: Pen, caption: Caption, width: float) -> None:
    pen.write(MARGIN, 30, caption.question, 30, _INK, width=width)
    length = min(pen.length(caption.title, 15), width * 0.27)
    pen.write(MARGIN + width - length, 76, caption.title, 15, _QUIET, width=width * 0.27)
    _predictions(pen, caption.predictions, width * 0.7)


def _predictions(pen: Pen, predictions: Sequence[tuple[str, float]], width: float) -> None:
    """Names dark, probabilities grey, as many as fit; the first is cut rather than left out."""
    left: float = MARGIN
    for i, (name, probability) in enumerate(predictions[:_MOST_PREDICTIONS]):
        number = format_share(probability)
        room = MARGIN + width - left - pen.length(number, 17) - 8
        if i and pen.length(name, 17) > room:
            return
        left += pen.write(left, 74, name, 17, _INK, width=room) + 8
        left += pen.write(left, 74, number, 17, _QUIET) + 26


def _place(canvas: Image.Image, pen: Pen, tile: _Tile, left: int, top: int) -> None:
    pen.label(left, top - 22, tile.label, 12, _QUIET)
    canvas.paste(tile.picture, (left, top))
    right, bottom = left + tile.picture.width, top + tile.picture.height
    pen.draw.rectangle((left - 1, top - 1, right, bottom), outline=_LINE)  # white pictures on white paper
    if tile.limit is not None:
        _legend(canvas, pen, tile.limit, left, bottom + 10, max(tile.picture.width, 200))


def _legend(canvas: Image.Image, pen: Pen, limit: float, left: int, top: int, width: int) -> None:
    low, high = format_number(-limit), "+" + format_number(limit) if limit else "0"
    before, after = pen.length(low, 13) + 8, pen.length(high, 13) + 8
    bar = int(width - before - after)
    colours = heatmap(torch.linspace(-1, 1, bar).expand(10, bar), percentile=100)
    pen.write(left, top, low, 13, _QUIET)
    canvas.paste(Image.fromarray(to_uint8(colours)), (int(left + before), top + 2))
    pen.draw.rectangle((left + before - 1, top + 1, left + before + bar, top + 12), outline=_LINE)
    pen.write(left + before + bar + 8, top, high, 13, _QUIET)


def _numbers(pen: Pen, caption: Caption, top: int, width: int) -> None:
    """logit = pixels + constants + residual, and at the right how much of it the pixels carry."""
    pen.draw.line((MARGIN, top, width - MARGIN, top), fill=_LINE)
    terms = (
        ("Logit" if caption.contrast is None else "Logit difference", caption.value, "="),
        ("Pixels", caption.contribution, "+"),
        ("Constants", caption.constants, "+"),
        ("Residual", caption.residual, ""),
    )
    left: float = MARGIN
    for name, value, sign in terms:
        wide = max(pen.label(left, top + 20, name, 12, _QUIET), pen.write(left, top + 40, format_number(value), 24, _INK))
        left += wide + 22
        left += pen.write(left, top + 40, sign, 24, _QUIET) + 22
    warning, share = caption.warning, format_share(caption.share)
    colour = _WARN_INK if warning else _INK
    heading = "Share of pixels"
    right = width - MARGIN
    pen.label(right - pen.label_length(heading, 12), top + 20, heading, 12, _WARN_INK if warning else _QUIET)
    pen.write(right - pen.length(share, 24), top + 40, share, 24, colour)
    if warning:
        box = (MARGIN, top + 84, width - MARGIN, top + 118)
        pen.draw.rounded_rectangle(box, radius=6, fill=_WARN_PAPER)
        pen.write(MARGIN + 12, top + 93, warning, 16, _WARN_INK, width=width - 2 * MARGIN - 24)
