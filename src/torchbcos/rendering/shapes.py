"""What a figure consists of: lines, areas, marks and words with places. `svg` writes it into pages, `draw` into pictures.

One geometry, two writers: a figure of a page and its picture in docs are the same. Colours are roles ("ink", "s0"), so that a
page can be light or dark; "#rrggbb" is the same in both.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

__all__ = [
    "DASHES", "INKS", "MARKS", "Area", "Axis", "Drawing", "Dot", "Line", "Point", "Shape", "Words", "breadth", "outline",
    "series_ink", "strokes", "ticks",
]  # fmt: skip

Point = tuple[float, float]

# role -> on white, on black. Series: Okabe and Ito's colours for the colour blind, darker or lighter where the paper asks for it.
INKS = {
    "ink": ("#20242b", "#e6e8ec"),
    "quiet": ("#626872", "#9aa1ad"),
    "line": ("#d9dce1", "#3a3f48"),
    "paper": ("#ffffff", "#15181d"),
    "warn": ("#8a4b00", "#ffc46b"),
    "s0": ("#0069ae", "#56b4f0"),
    "s1": ("#d55e00", "#ff9550"),
    "s2": ("#00735a", "#2fc596"),
    "s3": ("#c8679f", "#e79cc8"),
    "s4": ("#20242b", "#e6e8ec"),
    "s5": ("#a07800", "#f0c93c"),
    "s6": ("#3d96cc", "#9bd8f7"),
    "s7": ("#767c86", "#8f96a3"),
}
MARKS = ("circle", "square", "diamond", "triangle", "cross")
DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 3), (9, 3, 2, 3))
_SERIES = 8


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[Point, ...]
    ink: str = "ink"
    width: float = 1
    dash: tuple[float, ...] = ()
    title: str = ""  # shown when a pointer rests on it


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: tuple[Point, ...]
    ink: str = "ink"
    opacity: float = 1
    title: str = ""

    @classmethod
    def box(cls, left: float, top: float, right: float, bottom: float, ink: str, opacity: float = 1, title: str = "") -> Area:
        """A rectangle."""
        return cls(((left, top), (right, top), (right, bottom), (left, bottom)), ink, opacity, title)


@dataclass(frozen=True)
class Dot:
    """A mark of a given shape; hollow ones show the paper inside."""

    x: float
    y: float
    radius: float = 4
    ink: str = "ink"
    mark: str = "circle"
    hollow: bool = False
    title: str = ""


@dataclass(frozen=True)
class Words:
    """One line of text whose middle height is at y; turned ones run upwards."""

    x: float
    y: float
    text: str
    size: int = 13
    ink: str = "ink"
    anchor: str = "start"  # "start", "middle", "end": what of the text is at x
    bold: bool = False
    turned: bool = False
    most: float = math.inf  # longer text is cut, and whole where a pointer rests on it


Shape = Line | Area | Dot | Words


@dataclass(frozen=True)
class Drawing:
    """Shapes on a paper of width x height units.

    Attributes:
        width: units; a unit is a pixel at scale 1.
        height: units.
        shapes: later ones lie on earlier ones; words on everything.
        label: what the figure shows, for those who do not see it.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    label: str = ""


def outline(dot: Dot, radius: float) -> tuple[Point, ...]:
    """The corners of a mark of that size; none for a circle.

    >>> outline(Dot(0, 0, mark="square"), 2)
    ((-2, -2), (2, -2), (2, 2), (-2, 2))
    """
    x, y, r = dot.x, dot.y, radius
    if dot.mark == "square":
        return (x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)
    if dot.mark == "diamond":
        return (x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)
    return ((x, y - 1.2 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)) if dot.mark == "triangle" else ()


def strokes(dot: Dot) -> tuple[tuple[Point, Point], tuple[Point, Point]]:
    """The two lines of a cross.

    >>> strokes(Dot(0, 0, 1))
    (((-1, -1), (1, 1)), ((-1, 1), (1, -1)))
    """
    x, y, r = dot.x, dot.y, dot.radius
    return ((x - r, y - r), (x + r, y + r)), ((x - r, y + r), (x + r, y - r))


def breadth(text: str, size: float = 13) -> float:
    """About how wide a line of text will be, in units: which font a reader has is not known.

    >>> breadth("abcd", 10), breadth("日本", 10)
    (23.0, 20.0)
    """
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return size * (wide + 0.575 * (len(text) - wide))


def series_ink(i: int) -> str:
    """The colour of series i; from the ninth on they come again, with other marks and dashes.

    >>> series_ink(0), series_ink(9)
    ('s0', 's1')
    """
    return f"s{i % _SERIES}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two, at most so many.

    >>> ticks(0, 1), ticks(-0.2, 0.31, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-0.2, 0.0, 0.2])
    """
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (m * power for m in (1, 2, 5, 10, 20, 50)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Axis:
    """Numbers from low to high on places from start to end, evenly or, `log`, by factors."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a number."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers of the axis."""
        if not self.log:
            return ticks(self.low, self.high, most)
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        return [10.0**p for p in list(powers)[:: math.ceil(len(powers) / most) or 1]]
