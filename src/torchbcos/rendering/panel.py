"""One picture that tells one decision: photo, explanation, signed map, overlay, and the numbers beside them.

Shapes: H W space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

import dataclasses
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
from torchbcos._core.letters import one_line
from torchbcos._core.probability import short_of_half, undecided
from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.fonts import load_font
from torchbcos.rendering.heatmap import SlicePlaces, check_slices, heat_limit, heatmap, over, overlay, photo, slice_places
from torchbcos.rendering.text import Pen, format_number, format_share

__all__ = ["MARGIN", "Caption", "panel", "sheet", "undrawable"]

MARGIN, _GUTTER = 36, 24
_HEAD = 142  # height of the question, the predictions and the tiles' labels
_LEGEND, _NUMBERS, _WARNING = 64, 72, 42  # heights of what stands below the tiles
_TILE = (320, 320)  # one of several tiles, width and height at most
_LONE_TILE = (808, 420)  # the only tile
_STRIP = (808, 96)  # a 1-D signal
_LEAST_SIDE = 8  # a picture of 1 by 2000 still has something to look at
_LEAST_WIDTH = 880  # four numbers and a share side by side
_SMALL_SHARE = 0.5
_MOST_PREDICTIONS = 5
_SHEET_HEAD = 62
_LEAST_SLICE = 24  # pixels; a smaller slice has no room for its number

_INK, _QUIET, _LINE, _PAPER = "#2b2f36", "#7a808a", "#d9dce1", "#ffffff"
_WARN_INK, _WARN_PAPER = "#8a4b00", "#fff3dc"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The words and numbers of a panel.

    Args:
        title: The file or the picture's name.
        predictions: The highest classes, (name, probability), best first; behind them those of the question, if they are lower.
        explained: The class that is explained.
        contrast: The class it is compared with, or None.
        value: What is explained: the logit, or the difference of two.
        contribution: Sum of all pixels' contributions.
        constants: Sum of all constants.
        share: What part of the value the pixels carry; NaN where it is not defined.
        residual: value - contribution - constants.
        note: What part of the picture the network saw, or "".
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
    note: str = ""

    @property
    def question(self) -> str:
        """What the panel answers: "Why 'tench'", or "Why 'springer' rather than 'tench'", and whether it is answered at all."""
        rather = f" rather than '{self.contrast}'" if self.contrast is not None else ""
        doubt = ", though no class reaches 50 %" if undecided([p for _, p in self.predictions]) else ""
        return f"Why '{self.explained}'{rather}{doubt}"

    @property
    def colours(self) -> str:
        """What the heat map's two colours say."""
        if self.contrast is None:
            return "red: for it, blue: against it"
        return f"red: for '{self.explained}', blue: for '{self.contrast}'"

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
    note: str = ""  # below it


def panel(
    caption: Caption,
    contributions: Tensor,
    *,
    image: Tensor | NDArray[Any] | None = None,
    picture: NDArray[Any] | None = None,
    percentile: float = 99.5,
    slices: Sequence[int] | None = None,
    axis: int = 0,
) -> Image.Image:
    """Draw one image and one target: photo, colour picture on white, signed heat map, overlay, and the numbers.

    Args:
        caption: The words and numbers.
        contributions: (H, W), or (L,) or (D, H, W) where there is no photo.
        image: The photo, (3, H, W) tensor in [0, 1] or (H, W, 3) array; None leaves out photo and overlay.
        picture: (H, W, 4) from `rgba`; None leaves it out, and the overlay shows the heat map.
        percentile: For the range of the heat map, in (0, 100].
        slices: Of a volume, which slices are shown, each with its number; None: the 16 that carry most.
        axis: Of a volume, the axis that is cut into slices.

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
    caption = _drawable(caption)
    tiles = _tiles(contributions, image, picture, percentile, caption.note)
    if contributions.ndim == 3:
        tiles = [_volume(contributions, percentile, check_slices(contributions, slices, axis), axis)]
    widths = [_column(tile) for tile in tiles]
    width = max(_LEAST_WIDTH, sum(widths) + _GUTTER * (len(tiles) - 1) + 2 * MARGIN)
    tallest = max(tile.picture.height for tile in tiles)
    height = _HEAD + tallest + _LEGEND + _NUMBERS + (_WARNING if caption.warning else 0) + MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    pen = Pen(ImageDraw.Draw(canvas))
    _head(pen, caption, width - 2 * MARGIN)
    left = MARGIN
    for tile, column in zip(tiles, widths, strict=True):
        _place(canvas, pen, tile, left, _HEAD, caption.colours)
        left += column + _GUTTER
    _numbers(pen, caption, _HEAD + tallest + _LEGEND, width)
    return canvas


def _tiles(
    contributions: Tensor, image: Tensor | NDArray[Any] | None, picture: NDArray[Any] | None, percentile: float, note: str
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
    tiles = [] if shown is None else [_Tile("Input", _fit(shown, box), note=note)]
    if picture is not None:
        tiles.append(_Tile("Explanation", _fit(over(picture), box)))
    tiles.append(_Tile("Contributions", _stretch(heat) if contributions.ndim == 1 else _fit(heat, box), limit))
    if shown is not None:
        tiles.append(_Tile("Overlay", _fit(overlay(shown, heat if picture is None else picture), box)))
    return tiles


def _volume(contributions: Tensor, percentile: float, slices: tuple[int, ...], axis: int) -> _Tile:
    """The slices of a volume, each with its number where there is room for it."""
    limit = heat_limit(contributions, percentile=percentile)
    picture = _fit(heatmap(contributions, percentile=percentile, slices=slices, axis=axis), _LONE_TILE)
    depth = contributions.shape[axis]
    height, width = (side for i, side in enumerate(contributions.shape) if i != axis)
    if len(slices) > 1:
        _number_slices(picture, slices, slice_places(len(slices), height, width), (height, width))
    sizes = contributions.detach().abs().double().movedim(axis, 0).flatten(1).sum(1)
    part = format_share(float(sizes[sorted(set(slices))].sum() / sizes.sum()))
    some = f": {len(slices)} of {depth} slices of axis {axis}, with {part} of all contributions" if len(slices) < depth else ""
    return _Tile(f"Contributions{some or f': all {depth} slices of axis {axis}'}", picture, limit)


def _number_slices(picture: Image.Image, slices: Sequence[int], places: SlicePlaces, size: tuple[int, int]) -> None:
    """Write the number of each slice into its lower left corner, with a white rim and no box: little of the map is hidden."""
    height, width = size
    x = picture.width / (max(left for _, left in places) + width)
    y = picture.height / (max(top for top, _ in places) + height)
    if min(width * x, height * y) < _LEAST_SLICE:
        return
    draw, font = ImageDraw.Draw(picture), load_font("", 13)
    for number, (top, left) in zip(slices, places, strict=True):
        draw.text(
            (left * x + 4, (top + height) * y - 18), str(number), font=font, fill=_INK, stroke_width=2, stroke_fill=_PAPER
        )  # fmt: skip


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
    _predictions(pen, caption, width * 0.7)


def _predictions(pen: Pen, caption: Caption, width: float) -> None:
    """Names dark, probabilities grey, as many as fit; the first and those of the question stay, cut to equal parts if need be."""
    asked = (caption.explained, caption.contrast)
    shown = list(caption.predictions[:_MOST_PREDICTIONS])
    spare = [one for one in shown[1:] if one[0] not in asked]
    while spare and sum(_wide(pen, *one) for one in shown) > width:
        shown.remove(spare.pop())
    fits = sum(_wide(pen, *one) for one in shown) <= width
    left: float = MARGIN
    for name, probability in shown:
        room = math.inf if fits else width / len(shown) - _wide(pen, "", probability)
        left += pen.write(left, 74, name, 17, _INK, width=room) + 8
        left += pen.write(left, 74, format_share(short_of_half(probability, 0)), 17, _QUIET) + 26


def _wide(pen: Pen, name: str, probability: float) -> float:
    return pen.length(name, 17) + 8 + pen.length(format_share(short_of_half(probability, 0)), 17) + 26


def undrawable(names: Sequence[str]) -> set[str]:
    """Those of the names that no font here can draw in full, or that have nothing to draw: a panel must not ask "Why '?'".

    >>> undrawable(["tench", "\\ue000\\ue001", ""]) == {"", "\\ue000\\ue001"}
    True
    """
    pen = Pen(ImageDraw.Draw(Image.new("L", (1, 1))))
    return {name for name in set(names) if not one_line(name) or pen.lacks(name)}


def _drawable(caption: Caption) -> Caption:
    """The caption with code points in place of letters that no font has: "\\u6f22", not "?"."""
    pen = Pen(ImageDraw.Draw(Image.new("L", (1, 1))))

    def mended(name: str) -> str:
        name = one_line(name)
        lost = pen.lacks(name)
        return "".join(c.encode("unicode_escape").decode() if c in lost else c for c in name)

    return dataclasses.replace(
        caption, explained=mended(caption.explained), contrast=None if caption.contrast is None else mended(caption.contrast),
        predictions=tuple((mended(name), p) for name, p in caption.predictions[:_MOST_PREDICTIONS]),
    )  # fmt: skip


def sheet(panels: Sequence[Image.Image], heading: str = "") -> Image.Image:
    """Panels one below the other on white, under a line that says how many there are.

    Args:
        panels: At least one RGB picture.
        heading: The line above them; "" leaves it out.

    Returns:
        An RGB picture as wide as the widest panel.

    Raises:
        InputError: No panel.

    Example:
        >>> sheet([Image.new("RGB", (900, 300))] * 2, "2 of 9").size
        (900, 662)
    """
    if not panels:
        raise InputError("sheet needs at least one panel.")
    top = _SHEET_HEAD if heading else 0
    canvas = Image.new("RGB", (max(one.width for one in panels), top + sum(one.height for one in panels)), _PAPER)
    if heading:
        Pen(ImageDraw.Draw(canvas)).write(MARGIN, 24, heading, 20, _QUIET, width=canvas.width - 2 * MARGIN)
    for one in panels:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def _place(canvas: Image.Image, pen: Pen, tile: _Tile, left: int, top: int, colours: str) -> None:
    pen.label(left, top - 22, tile.label, 12, _QUIET)
    canvas.paste(tile.picture, (left, top))
    right, bottom = left + tile.picture.width, top + tile.picture.height
    pen.draw.rectangle((left - 1, top - 1, right, bottom), outline=_LINE)  # white pictures on white paper
    if tile.limit is not None:
        wide = max(tile.picture.width, 200)
        _legend(canvas, pen, tile.limit, left, bottom + 10, wide)
        pen.write(left, bottom + 29, colours, 13, _QUIET, width=wide)
    if tile.note:
        pen.write(left, bottom + 10, tile.note, 13, _INK, width=_column(tile) + _GUTTER / 2)


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
