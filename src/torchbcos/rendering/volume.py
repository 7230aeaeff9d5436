"""Volumes: numbered slices of one axis, input, contributions and overlay of the same ones.

Shapes: C channels, D H W space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from torchbcos.rendering._checks import Floats
from torchbcos.rendering.canvas import Letters, Tile, check_size, fit
from torchbcos.rendering.facts import Facts
from torchbcos.rendering.heatmap import heat_colours, heat_limit
from torchbcos.rendering.overlay import SCAN_STRENGTH, in_colour, overlay
from torchbcos.rendering.slices import MOST_SLICES, check_slices, slice_grid, slice_places
from torchbcos.rendering.text import format_share

__all__ = ["volume_tiles"]

_BESIDE = 8  # slices in a row where the input stands above its map
_FEW = (1, 2, 4)  # slices that fill a square, so that input, map and overlay stand side by side
_SQUARE, _ROW, _LONE = (434, 434), (1352, 260), (808, 420)
_LEAST_SLICE, _LEAST_SIDES = 24, 72  # units; a smaller slice has no room for its number, or for the letters of its sides


def volume_tiles(
    image: Tensor | None, contributions: Tensor, percentile: float, slices: Sequence[int] | None, axis: int, facts: Facts,
    scale: float, note: str,
) -> tuple[list[Tile], bool]:  # fmt: skip
    """Slices of the contributions alone; or of input, contributions and overlay, and whether these stand side by side.

    Args:
        image: (C, D, H, W) in [0, 1], or None.
        contributions: (D, H, W).
        percentile: of the heat map's range.
        slices: which; None: those that carry most, 8 beside an input and 16 alone.
        axis: that is cut into slices.
        facts: the voxels' sides, directions.
        scale: pixels a unit.
        note: below the input.
    """
    shown = check_slices(contributions, slices, axis, MOST_SLICES if image is None else _BESIDE)
    axis = int(axis)
    grid = _Grid(contributions, shown, axis, facts, scale, image is not None)
    limit = heat_limit(contributions, percentile=percentile)
    chosen = contributions.detach().cpu().double().movedim(axis, 0)[list(shown)].numpy()
    heat = slice_grid(grid.turned(heat_colours(chosen, limit)), grid.columns)
    if image is None:
        return [Tile(f"Contributions: {grid.words}", grid.drawn(heat), limit)], True
    scan = slice_grid(grid.turned(in_colour(image.movedim(axis + 1, 1)[:, list(shown)])), grid.columns)
    mean = f": mean of {len(image)} channels" if len(image) not in (1, 3) else ""
    return [
        Tile(f"Input{mean}", grid.drawn(scan, sides=True), note=", ".join(filter(None, (grid.words, note)))),
        Tile("Contributions", grid.drawn(heat), limit),
        Tile("Overlay", grid.drawn(overlay(scan, heat, strength=SCAN_STRENGTH))),
    ], grid.square


class _Grid:
    """How slices stand beside each other, the same for input, contributions and overlay."""

    def __init__(
        self, contributions: Tensor, slices: tuple[int, ...], axis: int, facts: Facts, scale: float, beside: bool
    ) -> None:  # fmt: skip
        self.slices, self.facts, self.scale = slices, facts, scale
        self.axes = [i for i in range(3) if i != axis]
        self.flipped = facts.turned(*self.axes)
        self.height, self.width = (contributions.shape[i] for i in self.axes)
        self.square = len(slices) in _FEW or not beside
        self.columns = math.ceil(math.sqrt(len(slices))) if self.square else min(len(slices), _BESIDE)
        rows = math.ceil(len(slices) / self.columns)
        self.box: tuple[float, float] = _LONE
        if beside:
            self.box = _SQUARE if self.square else (_ROW[0], _ROW[1] * rows)
            check_size(*self.box, scale, "slices")
        depth = contributions.shape[axis]
        sizes = contributions.detach().abs().double().movedim(axis, 0).flatten(1).sum(1)
        part = format_share(float(sizes[sorted(set(slices))].sum() / sizes.sum()))
        where = f"slices of axis {axis}{facts.along(axis)}"
        few = f"{len(slices)} of {depth} {where}, with {part} of all contributions"
        self.words = few if len(slices) < depth else f"all {depth} {where}"

    @property
    def ends(self) -> list[tuple[str, str]]:
        """The letters above and below, at the left and at the right."""
        stored = [self.facts.ends[axis] for axis in self.axes]
        return [(end, begin) if flip else (begin, end) for (begin, end), flip in zip(stored, self.flipped, strict=True)]

    def turned(self, slices: Floats) -> Floats:
        """Slices (n, H, W, 3) with the head, or the front, above, and the patient's right at the left; as stored if unknown."""
        down, across = (-1 if flip else 1 for flip in self.flipped)
        return np.ascontiguousarray(slices[:, ::down, ::across])

    def drawn(self, picture: Floats, *, sides: bool = False) -> Image.Image:
        """The slices with their numbers, and with the letters of their sides where these are known."""
        fitted = fit(picture, self.box, self.scale, self.facts.aspect(*self.axes))
        x, y = fitted.width / picture.shape[1], fitted.height / picture.shape[0]
        wide, high = self.width * x, self.height * y
        if min(wide, high) < _LEAST_SLICE * self.scale or (len(self.slices) == 1 and not sides):
            return fitted
        pen = Letters(fitted, self.scale)
        places = slice_places(len(self.slices), self.height, self.width, self.columns)
        for number, (top, left) in zip(self.slices, places, strict=True):
            pen.write(left * x + 4 * self.scale, (top + self.height) * y - 18 * self.scale, str(number))
            if sides and self.facts.ends and min(wide, high) >= _LEAST_SIDES * self.scale:
                pen.sides((left * x, top * y, wide, high), self.ends)
        return fitted
