"""A white canvas in units of its scale: what panels place on it, and how pictures get their size.

A unit is one pixel at scale 1. At scale 2 everything has twice the pixels: letters, lines and curves are drawn larger, not blown
up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.fonts import load_font
from torchbcos.rendering.heatmap import heatmap
from torchbcos.rendering.text import Pen, format_number

__all__ = [
    "GUTTER",
    "INK",
    "LEAST_COLUMN",
    "LINE",
    "Letters",
    "MARGIN",
    "PAPER",
    "QUIET",
    "WARN_INK",
    "WARN_PAPER",
    "Page",
    "Tile",
    "check_scale",
    "check_size",
    "fit",
]

MARGIN, GUTTER = 36, 24
INK, QUIET, LINE, PAPER = "#2b2f36", "#7a808a", "#d9dce1", "#ffffff"
WARN_INK, WARN_PAPER = "#8a4b00", "#fff3dc"
LEAST_COLUMN = 200  # room for the label above a tile and the legend below it
_LEAST_SIDE = 8  # a picture of 1 by 2000 still has something to look at
_SCALES = (0.25, 8.0)
_NOTE_LINES = 3
_MOST_PIXELS = 100_000_000  # of a tile
_LINE_HEIGHT = 19


@dataclass(frozen=True)
class Tile:
    """One picture of a panel, drawn at the page's scale, and the words around it."""

    label: str
    picture: Image.Image
    limit: float | None = None  # a heat map's range, for its legend
    note: str = ""  # below it
    framed: bool = True


class Page:
    """A canvas that counts in units of `scale` pixels."""

    def __init__(self, width: float, height: float, scale: float) -> None:
        self.scale = scale
        self.width, self.height = width, height
        self.canvas = Image.new("RGB", (round(width * scale), round(height * scale)), PAPER)
        self.pen = Pen(ImageDraw.Draw(self.canvas), scale=scale)

    def paste(self, picture: Image.Image, left: float, top: float) -> None:
        """A picture with its top left corner there."""
        self.canvas.paste(picture, (round(left * self.scale), round(top * self.scale)))

    def frame(self, left: float, top: float, right: float, bottom: float) -> None:
        """A thin line around these pixels, outside them."""
        s, thick = self.scale, self._thick
        box = (left * s - thick, top * s - thick, right * s + thick - 1, bottom * s + thick - 1)
        self.pen.draw.rectangle(box, outline=LINE, width=thick)

    def rule(self, left: float, top: float, right: float) -> None:
        """A thin line from left to right."""
        s = self.scale
        self.pen.draw.line((left * s, top * s, right * s, top * s), fill=LINE, width=self._thick)

    def patch(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        """A coloured box with round corners."""
        s = self.scale
        self.pen.draw.rounded_rectangle((left * s, top * s, right * s, bottom * s), radius=6 * s, fill=colour)

    @property
    def _thick(self) -> int:
        return max(1, round(self.scale))

    def size(self, tile: Tile) -> tuple[float, float]:
        """Width and height of a tile's picture."""
        return tile.picture.width / self.scale, tile.picture.height / self.scale

    def place(self, tile: Tile, left: float, top: float, colours: str) -> None:
        """A tile with its label above it, its legend and its note below."""
        width, height = self.size(tile)
        bottom = top + height
        self.pen.label(left, top - 22, tile.label, 12, QUIET)
        self.paste(tile.picture, left, top)
        if tile.framed:
            self.frame(left, top, left + width, bottom)  # white pictures on white paper
        if tile.limit is not None:
            wide = max(min(width, 440), LEAST_COLUMN)
            self._legend(tile.limit, left, bottom + 10, wide)
            self.pen.write(left, bottom + 29, colours, 13, QUIET, width=max(width, wide))
        room = max(width, LEAST_COLUMN) + GUTTER / 2
        for i, line in enumerate(_lines(self.pen, tile.note, room)):
            self.pen.write(left, bottom + 10 + i * _LINE_HEIGHT, line, 13, INK, width=room)

    def _legend(self, limit: float, left: float, top: float, width: float) -> None:
        low, high = format_number(-limit), "+" + format_number(limit) if limit else "0"
        before, after = self.pen.length(low, 13) + 8, self.pen.length(high, 13) + 8
        bar = int(width - before - after)
        long, tall = round(bar * self.scale), round(10 * self.scale)
        colours = heatmap(torch.linspace(-1, 1, long).expand(tall, long), percentile=100)
        self.pen.write(left, top, low, 13, QUIET)
        start = int(left + before)
        self.paste(Image.fromarray(to_uint8(colours)), start, top + 2)
        self.frame(left + before, top + 2, left + before + bar, top + 12)
        self.pen.write(left + before + bar + 8, top, high, 13, QUIET)


def _lines(pen: Pen, note: str, width: float) -> list[str]:
    """A note in lines that fit, broken between its remarks; the last line is cut, if need be, when it is written."""
    lines: list[str] = []
    for remark in note.split(", ") if note else []:
        longer = f"{lines[-1]}, {remark}" if lines else remark
        if lines and (pen.length(longer, 13) <= width or len(lines) == _NOTE_LINES):
            lines[-1] = longer
        else:
            lines.append(remark)
    return [line + "," for line in lines[:-1]] + lines[-1:]


def fit(picture: NDArray[Any], box: tuple[float, float], scale: float = 1, aspect: float = 1) -> Image.Image:
    """A picture as large as it goes into a box of units: small ones by whole pixels, so that pixels stay pixels, others smoothly.

    Args:
        picture: (H, W, 3 or 4).
        box: Width and height in units.
        scale: Pixels a unit.
        aspect: Height of a pixel as it is to be drawn, in its widths.
    """
    image = Image.fromarray(to_uint8(picture))
    width, height = image.width, image.height * aspect
    larger = min(box[0] / width, box[1] / height)
    if larger >= 2 and aspect == 1:
        larger = math.floor(larger)
    units = [min(most, max(_LEAST_SIDE, round(side * larger))) for side, most in zip((width, height), box, strict=True)]
    method = Image.Resampling.NEAREST if larger * min(aspect, 1) >= 2 else Image.Resampling.BICUBIC
    return image.resize((round(units[0] * scale), round(units[1] * scale)), method)


def check_scale(scale: float) -> float:
    """Refuse a scale that no screen or printer needs."""
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise ArgumentTypeError(f"scale must be a number, 2 for print, say; got {type(scale).__name__}.")
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise InputError(f"scale must lie between {_SCALES[0]:g} and {_SCALES[1]:g}, got {scale:g}; 2 is sharp in print.")
    return float(scale)


def check_size(width: float, height: float, scale: float, what: str) -> None:
    """Refuse a tile that would take more memory than a picture is worth.

    >>> check_size(1352, 360, 2, "channels")
    """
    if width * height * scale * scale > _MOST_PIXELS:
        raise InputError(
            f"So many {what} at scale {scale:g} would make a picture of {width * scale:,.0f} x {height * scale:,.0f} pixels: "
            f"ask for fewer {what} or a smaller scale."
        )


class Letters:
    """Short words in a picture, with a white rim and no box: little of the picture is hidden."""

    def __init__(self, picture: Image.Image, scale: float) -> None:
        self.draw, self.font, self.scale = ImageDraw.Draw(picture), load_font("", max(round(13 * scale), 1)), scale

    def write(self, x: float, y: float, text: str, anchor: str | None = None) -> None:
        """Text at a point that `anchor` tells, as Pillow names it."""
        style = anchor if isinstance(self.font, ImageFont.FreeTypeFont) else None  # Pillow's bitmap letters have no anchors
        rim = round(2 * self.scale)
        self.draw.text((x, y), text, font=self.font, anchor=style, fill=INK, stroke_width=rim, stroke_fill=PAPER)

    def sides(self, box: tuple[float, float, float, float], ends: Sequence[tuple[str, str]]) -> None:
        """R and L, A and P: which side of the body lies where in that left, top, width and height."""
        (left, top, wide, high), air = box, 4 * self.scale
        (above, below), (before, after) = ends
        self.write(left + air, top + high / 2, before, "lm")
        self.write(left + wide - air, top + high / 2, after, "rm")
        self.write(left + wide / 2, top + air, above, "mt")
        self.write(left + wide / 2, top + high - air, below, "mb")
