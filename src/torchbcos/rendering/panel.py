"""One picture that tells one decision: input, explanation, signed map, overlay, and the numbers beside them.

Shapes: C channels, H W (or *S) space, L length of a signal, D slices of a volume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering.canvas import (
    GUTTER,
    INK,
    LEAST_COLUMN,
    MARGIN,
    PAPER,
    QUIET,
    WARN_INK,
    WARN_PAPER,
    Letters,
    Page,
    Tile,
    check_scale,
    fit,
)
from torchbcos.rendering.caption import MOST_PREDICTIONS, Caption, drawable
from torchbcos.rendering.facts import Facts, facts_of
from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.heatmap import heat_limit, heatmap
from torchbcos.rendering.overlay import SCAN_STRENGTH, in_colour, numbers, over, overlay
from torchbcos.rendering.signal import signal_tiles
from torchbcos.rendering.text import Pen, format_chance, format_number, format_share
from torchbcos.rendering.volume import volume_tiles
from torchbcos.rendering.whole import Whole

__all__ = ["MARGIN", "panel", "sheet"]

_HEAD = 142  # height of the question, the predictions and the tiles' labels
_LEGEND, _NUMBERS, _WARNING = 64, 72, 42  # heights of what stands below the tiles
_LINE = 22  # from one line of the warning to the next
_BETWEEN = 40  # from a row of tiles to the next one, its labels included, where nothing stands between
_TILE = (320, 320)  # one of several tiles, width and height at most
_LONE_TILE = (808, 420)  # the only tile
_STRIP = (808, 96)  # a 1-D signal without its input
_LEAST_WIDTH = 880  # four numbers and a share side by side
_SHEET_HEAD = 62
_QUESTION = (30, 25, 21)  # sizes of its letters: smaller ones where names are long
_LEAST_SIDES = 72  # units; a smaller picture has no room for the letters of its sides
_SEEN_THROUGH = np.array([0.98, 0.93, 0.76], np.float32)  # paper below the tones of a grey picture: none of them
_TONES = "grey: the tone it looks for, yellow: none"


def panel(
    caption: Caption,
    contributions: Tensor,
    *,
    image: Tensor | NDArray[Any] | None = None,
    picture: NDArray[Any] | None = None,
    percentile: float = 99.5,
    slices: Sequence[int] | None = None,
    axis: int = 0,
    channels: Sequence[int] | None = None,
    by_channel: Tensor | None = None,
    spacing: Sequence[float] | float | None = None,
    facts: Mapping[str, Any] | None = None,
    whole: Whole | None = None,
    scale: float = 1,
) -> Image.Image:
    """Draw one input and one target: the input, colour picture, signed heat map, overlay, and the numbers.

    A picture's tiles stand side by side. A signal is drawn as traces over an axis, its contributions as bars over the same axis.
    A volume is drawn as numbered slices, those that carry most.

    Args:
        caption: The words and numbers.
        contributions: (H, W), (L,) or (D, H, W).
        image: What the network saw, a tensor (C, *S) or an array with its channels last; uint8 or float in [0, 1], a signal of
            any range. Three channels are colours, one is grey, of others the mean is shown. None leaves out input and overlay.
        picture: (H, W, 4) from `rgba`; None leaves it out, and the overlay shows the heat map.
        percentile: For the range of the heat map, in (0, 100].
        slices: Of a volume, which slices are shown, each with its number; None: those that carry most, 8 beside an input or 16.
        axis: Of a volume, the axis that is cut into slices.
        channels: Of a signal, which channels are shown; None: the 8 that carry most.
        by_channel: Of a signal, (C, L), what each channel contributes; None: all show the contributions of all together.
        spacing: The distance of samples along each axis of space: seconds for a signal, millimetres for scans, whose pixels are
            then drawn in their true shape. None: what `facts` say.
        facts: What a scan's file says: "spacing", "orientation", "window", "unit", "channels"; see `torchbcos.pictures.Scan`.
        whole: The whole photo, shown in place of what the network saw of it.
        scale: Pixels a unit; at 2 all is drawn with twice the pixels, for print.

    Returns:
        An RGB PIL image, white, about 1450 pixels wide with four tiles.

    Raises:
        InputError: Shapes that do not belong together, NaN, or a number out of range.
        ArgumentTypeError: `caption` is no Caption, or an argument is no tensor or array.

    Example:
        >>> import torch
        >>> words = Caption(title="a.jpg", predictions=(("tench", 0.9),), explained="tench", contrast=None,
        ...                 value=2.0, contribution=1.5, constants=0.5, share=0.75, residual=0.0)
        >>> panel(words, torch.randn(8, 8)).mode
        'RGB'
        >>> panel(words, torch.randn(500), image=torch.randn(2, 500).cumsum(1)).width
        1424
    """
    if not isinstance(caption, Caption):
        raise ArgumentTypeError(f"caption must be a Caption, got {type(caption).__name__}.")
    scale, caption = check_scale(scale), drawable(caption)
    limit = heat_limit(contributions, percentile=percentile)  # and a check of the contributions
    shown = _checked(contributions, image, picture)
    known = facts_of(facts, spacing, contributions.ndim, 1 if shown is None else len(shown))
    beside = True
    if contributions.ndim == 3:
        tiles, beside = volume_tiles(shown, contributions, percentile, slices, axis, known, scale, caption.note)
    elif contributions.ndim == 1 and shown is not None:
        parts = signal_tiles(shown, contributions, by_channel, percentile, channels, known, scale, caption.note)
        tiles, beside = parts, False
    else:
        tiles = _tiles(contributions, shown, picture, percentile, limit, known, whole, scale, caption.note)
    return _drawn(caption, [tiles] if beside else [[tile] for tile in tiles], scale)


def _checked(contributions: Tensor, image: Tensor | NDArray[Any] | None, picture: NDArray[Any] | None) -> Tensor | None:
    """The input as a tensor (C, *S), where it has the shape of its contributions."""
    if picture is not None and not isinstance(picture, np.ndarray):
        raise ArgumentTypeError(f"picture must be an array, got {type(picture).__name__}.")
    if picture is not None and contributions.ndim != 2:
        raise InputError(f"picture needs contributions of shape (H, W), got {tuple(contributions.shape)}.")
    if picture is not None and (picture.ndim != 3 or picture.shape != (*contributions.shape, 4)):
        raise InputError(f"picture must be {(*contributions.shape, 4)} from rgba, got {tuple(picture.shape)}.")
    if image is None:
        return None
    shown = numbers(image)
    if shown.ndim != contributions.ndim + 1:
        needs = {2: "(L,)", 3: "(H, W)", 4: "(D, H, W)"}.get(shown.ndim, "(*S)")
        raise InputError(
            f"image needs contributions of shape {needs}, got {tuple(contributions.shape)}: a tensor image is (C, *S), an array "
            "has its channels last."
        )
    if shown.shape[1:] != contributions.shape:
        raise InputError(
            f"image and contributions must have one size, got {tuple(shown.shape[1:])} and {tuple(contributions.shape)}."
        )
    return shown


def _tiles(
    contributions: Tensor, shown: Tensor | None, picture: NDArray[Any] | None, percentile: float, limit: float, facts: Facts,
    whole: Whole | None, scale: float, note: str,
) -> list[Tile]:  # fmt: skip
    """A picture's, or the strip of a signal whose input is not known."""
    heat = heatmap(contributions, percentile=percentile)
    if contributions.ndim == 1:
        return [Tile("Contributions", _stretch(heat, scale), limit)]
    aspect = facts.aspect(0, 1)
    box = _TILE if shown is not None or picture is not None else _LONE_TILE

    def fitted(array: NDArray[Any]) -> Image.Image:
        return fit(array, box, scale, aspect)

    # tones of grey over a grey scan could not be told from the scan: there the overlay shows the heat map
    grey = picture is not None and shown is not None and bool((picture[..., :1] == picture[..., 1:3]).all())
    tiles = []
    if whole is not None:
        tiles.append(Tile("Picture", whole.drawn(_TILE, scale), note=note))
    elif shown is not None:
        mean = "" if len(shown) in (1, 3) else f": mean of {len(shown)} channels"
        seen = fitted(in_colour(shown))
        if facts.ends and min(seen.size) >= _LEAST_SIDES * scale:
            Letters(seen, scale).sides((0, 0, *seen.size), facts.ends)
        tiles.append(Tile(f"Input{mean}", seen, note=note))
    if picture is not None:
        paper = _SEEN_THROUGH if grey else 1.0
        tiles.append(Tile("Explanation", fitted(over(picture, paper)), note=_TONES if grey else ""))
    tiles.append(Tile("Contributions", fitted(heat), limit))
    if shown is not None:
        strength = 0.45 if len(shown) == 3 else SCAN_STRENGTH
        tiles.append(Tile("Overlay", fitted(overlay(shown, heat if picture is None or grey else picture, strength=strength))))
    return tiles


def _stretch(strip: NDArray[Any], scale: float) -> Image.Image:
    """A signal has no aspect to keep; columns are repeated or averaged, never blended when they are few."""
    image = Image.fromarray(to_uint8(strip))
    few = image.width <= _STRIP[0]
    size = (round(_STRIP[0] * scale), round(_STRIP[1] * scale))
    return image.resize(size, Image.Resampling.NEAREST if few else Image.Resampling.BOX)


def _drawn(caption: Caption, rows: list[list[Tile]], scale: float) -> Image.Image:
    """The page with its rows of tiles."""
    widths = [[max(tile.picture.width / scale, LEAST_COLUMN) for tile in row] for row in rows]
    width = max(_LEAST_WIDTH, *(sum(wide) + GUTTER * (len(wide) - 1) + 2 * MARGIN for wide in widths))
    tops, bottom = [], float(_HEAD)
    for i, row in enumerate(rows):
        tops.append(bottom)
        words = any(tile.limit is not None or tile.note for tile in row)
        last = i + 1 == len(rows)
        below = (_LEGEND if words else GUTTER) if last else _LEGEND + 22 if words else _BETWEEN
        bottom += max(tile.picture.height for tile in row) / scale + below
    warning = _warning_lines(caption, width)
    page = Page(width, bottom + _NUMBERS + (_WARNING + _LINE * (len(warning) - 1) if warning else 0) + MARGIN, scale)
    _head(page.pen, caption, width - 2 * MARGIN)
    for top, row, wide in zip(tops, rows, widths, strict=True):
        left = float(MARGIN)
        for tile, column in zip(row, wide, strict=True):
            page.place(tile, left, top, caption.colours)
            left += column + GUTTER
    _numbers(page, caption, bottom, width, warning)
    return page.canvas


def _warning_lines(caption: Caption, width: float) -> list[str]:
    """The sentence of the warning band in as many lines as it needs; none where all is well."""
    pen, lines = Pen(ImageDraw.Draw(Image.new("L", (1, 1)))), list[str]()
    for word in (caption.warning or "").split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.length(longer, 16) <= width - 2 * MARGIN - 24:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _head(pen: Pen, caption: Caption, width: float) -> None:
    size = next((size for size in _QUESTION if pen.length(caption.question, size) <= width), _QUESTION[-1])
    room, top = width - pen.length(caption.doubt, size), 30 + (_QUESTION[0] - size) / 2
    if pen.length(caption.question, size) <= width or not caption.doubt:
        pen.write(MARGIN, top, caption.question, size, INK, width=width)
    else:  # long names are cut, the doubt never
        left = pen.write(MARGIN, top, caption.question.removesuffix(caption.doubt), size, INK, width=room)
        pen.write(MARGIN + left, top, caption.doubt, size, INK)
    length = min(pen.length(caption.title, 15), width * 0.27)
    pen.write(MARGIN + width - length, 76, caption.title, 15, QUIET, width=width * 0.27)
    _predictions(pen, caption, width * 0.7)


def _predictions(pen: Pen, caption: Caption, width: float) -> None:
    """Names dark, probabilities grey, as many as fit; the first and those of the question stay, cut to equal parts if need be."""
    asked = (caption.explained, caption.contrast)
    shown = list(caption.predictions[:MOST_PREDICTIONS])
    spare = [one for one in shown[1:] if one[0] not in asked]
    while spare and sum(_wide(pen, *one) for one in shown) > width:
        shown.remove(spare.pop())
    fits = sum(_wide(pen, *one) for one in shown) <= width
    left: float = MARGIN
    for name, probability in shown:
        room = math.inf if fits else width / len(shown) - _wide(pen, "", probability)
        left += pen.write(left, 74, name, 17, INK, width=room) + 8
        left += pen.write(left, 74, format_chance(probability), 17, QUIET) + 26


def _wide(pen: Pen, name: str, probability: float) -> float:
    return pen.length(name, 17) + 8 + pen.length(format_chance(probability), 17) + 26


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
    canvas = Image.new("RGB", (max(one.width for one in panels), top + sum(one.height for one in panels)), PAPER)
    if heading:
        Pen(ImageDraw.Draw(canvas)).write(MARGIN, 24, heading, 20, QUIET, width=canvas.width - 2 * MARGIN)
    for one in panels:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def _numbers(page: Page, caption: Caption, top: float, width: float, lines: Sequence[str]) -> None:
    """logit = pixels + constants + residual, and at the right how much of it the pixels carry."""
    pen = page.pen
    page.rule(MARGIN, top, width - MARGIN)
    terms = (  # each with the sign behind it: "4.73 - 2.20", not "4.73 + -2.20"
        ("Logit" if caption.contrast is None else "Logit difference", caption.value, "="),
        (caption.parts.capitalize(), caption.contribution, "-" if caption.constants < 0 else "+"),
        ("Constants", abs(caption.constants), "-" if caption.residual < 0 else "+"),
        ("Residual", abs(caption.residual), ""),
    )
    left: float = MARGIN
    for name, value, sign in terms:
        wide = max(pen.label(left, top + 20, name, 12, QUIET), pen.write(left, top + 40, format_number(value), 24, INK))
        left += wide + 22
        left += pen.write(left, top + 40, sign, 24, QUIET) + 22
    share, colour = format_share(caption.share), WARN_INK if lines else INK
    heading = f"Share of {caption.parts}" + (", logit bias aside" if f"{abs(caption.aside):.2f}" != "0.00" else "")
    right = width - MARGIN
    pen.label(right - pen.label_length(heading, 12), top + 20, heading, 12, WARN_INK if lines else QUIET)
    pen.write(right - pen.length(share, 24), top + 40, share, 24, colour)
    if lines:
        page.patch(MARGIN, top + 84, width - MARGIN, top + 118 + _LINE * (len(lines) - 1), WARN_PAPER)
    for i, line in enumerate(lines):
        pen.write(MARGIN + 12, top + 93 + _LINE * i, line, 16, WARN_INK, width=width - 2 * MARGIN - 24)
