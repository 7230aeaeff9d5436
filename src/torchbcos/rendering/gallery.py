"""Several maps of one picture side by side, each with its name and what it has to say for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import positive_integer
from torchbcos.rendering._checks import Floats
from torchbcos.rendering.canvas import GUTTER, INK, LEAST_COLUMN, MARGIN, Page, Tile, check_scale, fit
from torchbcos.rendering.heatmap import heat_limit, heatmap
from torchbcos.rendering.overlay import in_colour, numbers, overlay
from torchbcos.rendering.slices import telling_slices

__all__ = ["Shown", "gallery"]

_TILE = (320, 320)
_HEAD, _LABEL, _BELOW = 84, 26, 78  # heights of the heading, of a tile's name, of its legend and its note
_PALE = 0.3  # how dark the picture below a map stays


class Shown(NamedTuple):
    """One map of a gallery.

    Attributes:
        label: its name, above it.
        map: (H, W), (L,) or (D, H, W).
        note: a few words below it: what it took, what it misses.
    """

    label: str
    map: Tensor
    note: str = ""


def gallery(
    maps: Sequence[Shown], *, image: Tensor | NDArray[Any] | None = None, heading: str = "", columns: int = 4,
    percentile: float = 99.5, scale: float = 1,
) -> Image.Image:  # fmt: skip
    """Draw maps of one picture, each in its own range: red for the target, blue against it.

    Args:
        maps: at least one; all of one shape.
        image: what the network saw, (C, *S) or with its channels last; it stands first, and pale below every map.
        heading: the line above them.
        columns: tiles in a row.
        percentile: of the magnitudes of a map, which gets the full colour.
        scale: pixels a unit; at 2 all is drawn with twice the pixels, for print.

    Returns:
        An RGB picture.

    Raises:
        InputError: no map, maps of different shapes, or an image of another one.

    >>> import torch
    >>> gallery([Shown("a", torch.rand(8, 8)), Shown("b", torch.rand(8, 8), "9 passes")], image=torch.rand(3, 8, 8)).size
    (1080, 474)
    """
    if not maps:
        raise InputError("A gallery needs at least one map.")
    shapes = {tuple(one.map.shape) for one in maps}
    if len(shapes) > 1:
        raise InputError(f"The maps of a gallery must have one shape, not {' and '.join(map(str, sorted(shapes)))}.")
    if (wide := positive_integer(columns)) is None:
        raise InputError(f"columns must be a positive integer, not {columns!r}.")
    scale = check_scale(scale)
    shown = None if image is None else numbers(image)
    if shown is not None and tuple(shown.shape[1:]) not in shapes:
        raise InputError(f"The image of a gallery must have the size of its maps, {shapes.pop()}, not {tuple(shown.shape[1:])}.")
    tiles = [_tile(one, shown, percentile, scale) for one in maps]
    if shown is not None and shown.ndim == 3:
        tiles.insert(0, Tile("Input", fit(in_colour(shown), _TILE, scale)))
    return _laid([tiles[start : start + wide] for start in range(0, len(tiles), wide)], heading, scale)


def _tile(one: Shown, shown: Tensor | None, percentile: float, scale: float) -> Tile:
    slices = telling_slices(one.map) if one.map.ndim == 3 else None
    picture: Floats = heatmap(one.map, percentile=percentile, slices=slices)
    if shown is not None:
        picture = overlay(shown, picture, strength=_PALE, slices=slices)
    return Tile(one.label, fit(np.asarray(picture), _TILE, scale), heat_limit(one.map, percentile=percentile), one.note)


def _laid(rows: list[list[Tile]], heading: str, scale: float) -> Image.Image:
    """Rows of tiles on a page as wide as the widest of them."""
    widths = [[max(tile.picture.width / scale, LEAST_COLUMN) for tile in row] for row in rows]
    heights = [max(tile.picture.height for tile in row) / scale + _LABEL + _BELOW for row in rows]
    head = _HEAD if heading else MARGIN - _LABEL + 22
    width = max(sum(wide) + GUTTER * (len(wide) - 1) + 2 * MARGIN for wide in widths)
    page = Page(width, math.ceil(head + sum(heights) + MARGIN / 2), scale)
    if heading:
        page.pen.write(MARGIN, 28, heading, 25, INK, width=width - 2 * MARGIN)
    top = float(head)
    for row, wide, high in zip(rows, widths, heights, strict=True):
        left = float(MARGIN)
        for tile, column in zip(row, wide, strict=True):
            _place(page, tile, left, top + _LABEL, column)
            left += column + GUTTER
        top += high
    return page.canvas


def _place(page: Page, tile: Tile, left: float, top: float, column: float) -> None:
    """A tile; its note stands below its legend, where panels say what the colours mean."""
    page.place(Tile(tile.label, tile.picture, tile.limit, "", tile.framed), left, top, tile.note)
