"""Figures whose both sides count: how metrics agree, points, and how far confidence can be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchbcos.rendering.figures import WIDTH, axis_over
from torchbcos.rendering.shapes import MARKS, Area, Axis, Dot, Drawing, Line, Shape, Words, breadth, series_ink
from torchbcos.rendering.text import format_number

__all__ = ["Bin", "Spot", "matrix", "reliability", "scatter"]

_BLUE, _WHITE, _BROWN = (33, 102, 172), (247, 247, 247), (179, 88, 6)
_MOST_LABEL = 190.0
_DARK, _LIGHT = "#20242b", "#ffffff"


@dataclass(frozen=True)
class Spot:
    """One point of `scatter`."""

    label: str
    x: float
    y: float
    series: int = 0


@dataclass(frozen=True)
class Bin:
    """Predictions of about one confidence: how sure they were on average, how many were right (0 to 1), how many they are."""

    confidence: float
    accuracy: float
    count: int


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    notes: Sequence[Sequence[str]] | None = None,
    limit: float = 1,
    label: str = "",
) -> Drawing:
    """Numbers in coloured cells: blue above 0, brown below, by their distance from 0; "–" for NaN.

    Args:
        rows: names at the side.
        columns: names above.
        values: one list a row.
        notes: shown when a pointer rests on a cell.
        limit: the number of the darkest colour.
        label: what the figure shows, for those who do not see it.

    >>> matrix(["a", "b"], ["a", "b"], [[1, -0.5], [-0.5, 1]]).label
    '2 x 2 numbers'
    """
    left = min(max([breadth(name) for name in rows] + [20]), _MOST_LABEL) + 14
    top = min(max([breadth(name) for name in columns] + [20]), _MOST_LABEL) + 10
    side = min(66.0, (WIDTH - left) / max(len(columns), 1))
    high = min(side, 34.0)
    shapes: list[Shape] = []
    for j, name in enumerate(columns):
        shapes.append(Words(left + (j + 0.5) * side, top - 6, name, 12, turned=True, most=_MOST_LABEL))
    for i, name in enumerate(rows):
        y = top + (i + 0.5) * high
        shapes.append(Words(left - 8, y, name, 12, anchor="end", most=_MOST_LABEL))
        for j, value in enumerate(values[i]):
            note = f"{name}, {columns[j]}: {notes[i][j] if notes else format_number(value)}"
            shapes += _cell(left + j * side, y - high / 2, side, high, value / limit, format_number(value), note)
    width = max(left + side * len(columns), 200.0)
    return Drawing(width, top + high * len(rows) + 4, tuple(shapes), label or f"{len(rows)} x {len(columns)} numbers")


def _cell(x: float, y: float, side: float, high: float, share: float, words: str, note: str) -> list[Shape]:
    colour, ink = _colour(share)
    box = Area.box(x + 1, y + 1, x + side - 1, y + high - 1, colour, title=note)
    return [box, Words(x + side / 2, y + high / 2, words, 12 if side >= 46 else 10, ink, "middle", most=side)]


def _colour(share: float) -> tuple[str, str]:
    """The colour of a cell and of the letters on it."""
    if not math.isfinite(share):
        return "#e4e6ea", _DARK
    share = max(-1.0, min(1.0, share))
    end = _BLUE if share > 0 else _BROWN
    mixed = [round(w + (e - w) * abs(share)) for w, e in zip(_WHITE, end, strict=True)]
    return "#" + "".join(f"{v:02x}" for v in mixed), _LIGHT if abs(share) > 0.6 else _DARK


def scatter(
    spots: Sequence[Spot],
    *,
    x_label: str = "",
    y_label: str = "",
    series: Sequence[str] = (),
    log: bool | None = False,
    label: str = "",
) -> Drawing:
    """Points with names: two metrics of the same methods, say, or seconds and quality.

    Args:
        spots: those with NaN are left out.
        x_label: below.
        y_label: at the side.
        series: names of the series, for the legend.
        log: x by factors; None: where the numbers ask for it.
        label: what the figure shows, for those who do not see it.

    >>> scatter([Spot("inherent", 1, 0.9), Spot("rise", 200, 0.5)], x_label="passes", log=True).height
    424
    """
    spots = [spot for spot in spots if math.isfinite(spot.x) and math.isfinite(spot.y)]
    left, right, top, bottom = 70.0, WIDTH - 150, 30.0 if len(series) > 1 else 12.0, 380.0
    across, upwards = (
        axis_over([s.x for s in spots], left, right, log=log),
        axis_over([s.y for s in spots], bottom, top, log=False),
    )
    shapes: list[Shape] = [*_frame(across, upwards, x_label, y_label)]
    for i, name in enumerate(series if len(series) > 1 else ()):
        shapes += [Dot(left + 8 + 200 * i, 12, 4, series_ink(i), MARKS[i % 4]), Words(left + 20 + 200 * i, 12, name, most=176)]
    taken: list[tuple[float, float, float]] = []
    for spot in sorted(spots, key=lambda s: -s.y):
        x, y = across.at(spot.x), upwards.at(spot.y)
        shapes.append(Dot(x, y, 4, series_ink(spot.series), MARKS[spot.series % 4], title=spot.label))
        shapes.append(_beside(spot.label, x, y, taken))
    return Drawing(WIDTH, 424, tuple(shapes), label or f"{y_label} against {x_label}")


def _beside(name: str, x: float, y: float, taken: list[tuple[float, float, float]]) -> Words:
    """A name right of its point, lower where another name stands already."""
    long = min(breadth(name, 12), 140)
    while any(abs(y - other) < 13 and x < end and start < x + long for start, end, other in taken):
        y += 4
    taken.append((x, x + long + 10, y))
    return Words(x + 9, y, name, 12, most=140)


def _frame(across: Axis, upwards: Axis, x_label: str, y_label: str) -> list[Shape]:
    """Both axes with grid lines, numbers and names."""
    shapes: list[Shape] = []
    left, right, bottom, top = across.start, across.end, upwards.start, upwards.end
    for tick in across.ticks():
        x = across.at(tick)
        shapes += [Line(((x, top), (x, bottom)), "line"), Words(x, bottom + 12, f"{tick:.4g}", 12, "quiet", "middle")]
    for tick in upwards.ticks():
        y = upwards.at(tick)
        shapes += [Line(((left, y), (right, y)), "line"), Words(left - 8, y, f"{tick:.4g}", 12, "quiet", "end")]
    shapes.append(Words((left + right) / 2, bottom + 31, x_label, anchor="middle", most=right - left))
    shapes.append(Words(left - 56, (top + bottom) / 2, y_label, anchor="middle", turned=True, most=bottom - top))
    return shapes


def reliability(given: Mapping[str, Sequence[Bin]], *, label: str = "") -> Drawing:
    """Confidence against accuracy, bin by bin, with the number of predictions below: on the diagonal, confidence can be believed.

    Args:
        given: bins of each panel by its name ("before", "after"); bins without predictions are left out. At most three panels.
        label: what the figure shows, for those who do not see it.

    >>> reliability({"before": [Bin(0.95, 0.8, 120), Bin(0.55, 0.5, 10)]}).width
    380.0
    """
    shapes: list[Shape] = []
    for i, (name, bins) in enumerate(given.items()):
        shapes += _panel(name, [b for b in bins if b.count > 0 and math.isfinite(b.confidence + b.accuracy)], 380.0 * i)
    return Drawing(max(380.0 * len(given), 200), 470, tuple(shapes), label or "Reliability diagram: accuracy against confidence")


def _panel(name: str, bins: Sequence[Bin], start: float) -> list[Shape]:
    left, right, top, bottom = start + 66, start + 366, 30.0, 330.0
    across, upwards = Axis(0, 1, left, right), Axis(0, 1, bottom, top)
    shapes = _frame(across, upwards, "", "accuracy")
    shapes.append(Words((left + right) / 2, 14, name, 13, anchor="middle", bold=True, most=300))
    shapes.append(Line(((left, bottom), (right, top)), "quiet", 1.2, (4, 3), "as right as sure"))
    places = sorted((b.confidence, b.accuracy, b.count) for b in bins)
    shapes.append(Line(tuple((across.at(c), upwards.at(a)) for c, a, _ in places), "s0", 2))
    for confidence, accuracy, count in places:
        x, words = across.at(confidence), f"{count} predictions: sure {confidence:.3f}, right {accuracy:.3f}"
        shapes.append(Line(((x, upwards.at(confidence)), (x, upwards.at(accuracy))), "s1", 2, title=words))
        shapes.append(Dot(x, upwards.at(accuracy), 4, "s0", title=words))
    most = max((b.count for b in bins), default=1)
    base, tall = 430.0, 60.0
    for confidence, _, count in places:
        x = across.at(confidence)
        shapes.append(Area.box(x - 7, base - max(tall * count / most, 1), x + 7, base, "s7", title=f"{count} predictions"))
    shapes += [Line(((left, base), (right, base)), "quiet"), Words(left - 8, base - tall, str(most), 12, "quiet", "end")]
    shapes += [
        Words((left + right) / 2, base + 22, "confidence", anchor="middle"),
        Words(left - 8, base, "0", 12, "quiet", "end"),
    ]
    return shapes
