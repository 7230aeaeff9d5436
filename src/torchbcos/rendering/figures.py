"""Figures from plain numbers: methods with their intervals, curves. `svg.svg` puts them into pages, `draw.draw` into pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchbcos.rendering.shapes import (
    DASHES,
    MARKS,
    Area,
    Axis,
    Dot,
    Drawing,
    Line,
    Point,
    Shape,
    Words,
    breadth,
    series_ink,
)
from torchbcos.rendering.text import format_number

__all__ = ["WIDTH", "Curve", "Interval", "axis_over", "curves", "intervals"]

WIDTH = 820.0
_MOST_LABEL = 230.0
_ROW, _SUBROW = 26.0, 15.0
_NUMBERS = 168.0  # of the column with median and interval
_FOOT = 66.0
_MANY = 320  # points of a curve: more are thinned out
_FAR = 1000.0  # the largest over the smallest, from which on an axis goes by factors


@dataclass(frozen=True)
class Interval:
    """One row of `intervals`: how a number is spread, and how sure its median is. NaN: not drawn.

    Attributes:
        label: of the row; rows of one label that follow each other stand together.
        median: the dot.
        low: lower end of the median's interval.
        high: upper end.
        p5: 5th percentile of the values.
        p25: 25th.
        p75: 75th.
        mean: of the values.
        series: which of the `series` it belongs to.
        hollow: whether its dot is hollow: a baseline, say.
        note: shown when a pointer rests on the dot, and instead of the numbers where there is no median.
    """

    label: str
    median: float
    low: float = math.nan
    high: float = math.nan
    p5: float = math.nan
    p25: float = math.nan
    p75: float = math.nan
    mean: float = math.nan
    series: int = 0
    hollow: bool = False
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One line of `curves`, with a band where `low` and `high` are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def axis_over(
    values: Iterable[float], start: float, end: float, span: tuple[float, float] | None = None, log: bool | None = None
) -> Axis:
    """An axis with room for all finite values: from `span`, if given, and further where values lie beyond it.

    Args:
        values: any numbers; NaN and infinity are left out.
        start: place of its low end.
        end: place of its high end.
        span: what it shows at least.
        log: by factors; None: where all values are above 0, the largest is a thousand times the smallest, and `span` is None.

    >>> axis_over([0.2, 0.4], 0, 100, span=(0, 1)).at(0.5)
    50.0
    """
    found = [v for v in values if math.isfinite(v)]
    if log is None:
        log = span is None and len(found) > 1 and min(found) > 0 and max(found) > _FAR * min(found)
    found += [v for v in span or () if not log or v > 0]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if log and low > 0:
        first = math.floor(math.log10(low))
        return Axis(10.0**first, 10.0 ** max(math.ceil(math.log10(high) - 1e-9), first + 1), start, end, log=True)
    if not high > low:
        low, high = low - max(abs(low), 1e-9) / 2, high + max(abs(high), 1e-9) / 2
    elif span is None or (low, high) != span:
        air = 0.04 * (high - low)
        low = low if span is not None and low == span[0] else low - air
        high = high if span is not None and high == span[1] else high + air
    return Axis(low, high, start, end)


def intervals(
    rows: Sequence[Interval],
    *,
    axis: str = "",
    lines: Mapping[str, float] | None = None,
    span: tuple[float, float] | None = None,
    series: Sequence[str] = (),
    label: str = "",
) -> Drawing:
    """A dot for each median, its bootstrap interval, and the percentiles 5, 25 and 75, one row a method.

    Args:
        rows: from top to bottom.
        axis: what the numbers are.
        lines: vertical ones, by name: what an oracle and an even map get.
        span: what the axis shows at least, (0, 1), say.
        series: names of several networks; rows name theirs by number.
        label: what the figure shows, for those who do not see it.

    >>> rows = [Interval("inherent", 0.98, 0.97, 0.99, p5=0.6, p25=0.9, p75=1), Interval("rise", 0.41, 0.36, 0.45)]
    >>> intervals(rows, axis="grid-pointing", lines={"uniform": 0.25, "oracle": 1}).width
    820.0
    """
    lines = {name: value for name, value in (lines or {}).items() if math.isfinite(value)}
    left = min(max([breadth(row.label) for row in rows] + [60]), _MOST_LABEL) + 14
    values = [v for row in rows for v in (row.median, row.low, row.high, row.p5, row.p25, row.p75, row.mean)]
    scale = axis_over([*values, *lines.values()], left + 8, WIDTH - _NUMBERS - 20, span)
    legend = _series_legend(series, left) if len(series) > 1 else []
    top = (24 if legend else 0) + 4
    names, high = _line_names(lines, scale, top)
    places, bottom = _places(rows, top + high + 6)
    shapes: list[Shape] = [*legend, *_ground(scale, top + high, bottom, axis), *names]
    shapes += [Line(((scale.at(v), top + high), (scale.at(v), bottom)), "quiet", 1.2, (4, 3), n) for n, v in lines.items()]
    for i, (row, y) in enumerate(zip(rows, places, strict=True)):
        if i == 0 or rows[i - 1].label != row.label:
            block = [p for r, p in zip(rows[i:], places[i:], strict=True) if r.label == row.label]
            shapes.append(Words(left, sum(block) / len(block), row.label, anchor="end", most=_MOST_LABEL))
        shapes += _row(row, y, scale)
    shapes += _key(bottom + 54, left + 8)
    return Drawing(WIDTH, bottom + _FOOT, tuple(shapes), label or f"Medians with intervals: {axis}")


def _places(rows: Sequence[Interval], top: float) -> tuple[list[float], float]:
    """The height of each row; those of one label stand closer together."""
    places: list[float] = []
    y = top
    for i, row in enumerate(rows):
        together = i > 0 and rows[i - 1].label == row.label
        y += (_SUBROW if together else _ROW) if i else _ROW / 2
        places.append(y)
    return places, y + _ROW / 2 + 4


def _ground(scale: Axis, top: float, bottom: float, axis: str) -> list[Shape]:
    """Grid lines, the numbers below them, and what they are."""
    shapes: list[Shape] = []
    for tick in scale.ticks():
        shapes.append(Line(((scale.at(tick), top), (scale.at(tick), bottom)), "line"))
        shapes.append(Words(scale.at(tick), bottom + 12, _tick(tick), 12, "quiet", "middle"))
    shapes.append(Line(((scale.start, bottom), (scale.end, bottom)), "quiet"))
    words = axis + (" (by factors of ten)" if scale.log else "")
    shapes.append(
        Words((scale.start + scale.end) / 2, bottom + 31, words, 13, "ink", "middle", most=scale.end - scale.start + 120)
    )
    return shapes


def _tick(value: float) -> str:
    return f"{value:.4g}".replace("-", "\u2212")


def _line_names(lines: Mapping[str, float], scale: Axis, top: float) -> tuple[list[Shape], float]:
    """The names of vertical lines above the plot, in as many rows as keep them apart; and their height."""
    ends: list[float] = []
    shapes: list[Shape] = []
    for name, value in sorted(lines.items(), key=lambda line: line[1]):
        words = f"{name} {format_number(value)}"
        half = breadth(words, 12) / 2
        x = scale.at(value)
        i = next((i for i, end in enumerate(ends) if x - half > end + 8), len(ends))
        ends[i:] = [x + half, *ends[i + 1 :]]
        shapes.append(Words(x, top + 8 + 15 * i, words, 12, "quiet", "middle"))
    return shapes, 15 * len(ends) + 4.0


def _row(row: Interval, y: float, scale: Axis) -> list[Shape]:
    ink = series_ink(row.series)
    words = f"{row.label}: {row.note}" if row.note else row.label
    names = ("median", "low", "high", "p5", "p25", "p75", "mean")
    at = {name: scale.at(v) if _shown(v := getattr(row, name), scale) else math.nan for name in names}
    shapes: list[Shape] = []
    if _finite(at["p5"], at["p25"]):
        shapes.append(Line(((at["p5"], y), (at["p25"], y)), ink, 1))
    if _finite(at["p25"], at["p75"]):
        shapes.append(Area.box(at["p25"], y - 5, max(at["p75"], at["p25"] + 1), y + 5, ink, 0.28))
    if _finite(at["p5"]):
        shapes.append(Line(((at["p5"], y - 5), (at["p5"], y + 5)), ink, 1.5))
    if _finite(at["low"], at["high"]):
        shapes.append(Line(((at["low"], y), (at["high"], y)), ink, 3))
    if _finite(at["mean"]):
        shapes.append(Dot(at["mean"], y, 3, ink, "cross"))
    if _finite(at["median"]):
        shapes.append(Dot(at["median"], y, 4.2, ink, MARKS[row.series % 4], row.hollow, f"{words}, {_numbers(row)}"))
    shapes.append(Words(WIDTH - _NUMBERS, y, _numbers(row), 12, "ink" if _finite(at["median"]) else "quiet", most=_NUMBERS))
    return shapes


def _shown(value: float, scale: Axis) -> bool:
    return math.isfinite(value) and (not scale.log or value > 0)


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))


def _numbers(row: Interval) -> str:
    if not math.isfinite(row.median):
        return row.note or "–"
    if not _finite(row.low, row.high):
        return format_number(row.median)
    return f"{format_number(row.median)} [{format_number(row.low)}, {format_number(row.high)}]"


def _series_legend(series: Sequence[str], left: float) -> list[Shape]:
    shapes: list[Shape] = []
    room = (WIDTH - left) / len(series)
    for i, name in enumerate(series):
        shapes += [
            Dot(left + 8 + i * room, 12, 4.2, series_ink(i), MARKS[i % 4]),
            Words(left + 20 + i * room, 12, name, most=room - 30),
        ]
    return shapes


def _key(y: float, x: float) -> list[Shape]:
    """What dot, box, tick, thick line and cross are."""
    shapes: list[Shape] = [Dot(x + 4, y, 4.2, "quiet"), Words(x + 14, y, "median", 12, "quiet")]
    shapes += [Line(((x + 72, y), (x + 92, y)), "quiet", 3), Words(x + 98, y, "its 95 % interval", 12, "quiet")]
    shapes += [Area.box(x + 214, y - 5, x + 238, y + 5, "quiet", 0.28), Words(x + 244, y, "25 to 75 % of values", 12, "quiet")]
    shapes += [Line(((x + 376, y - 5), (x + 376, y + 5)), "quiet", 1.5), Words(x + 382, y, "5 %", 12, "quiet")]
    return [*shapes, Dot(x + 424, y, 3, "quiet", "cross"), Words(x + 432, y, "mean", 12, "quiet")]


def curves(
    given: Sequence[Curve],
    *,
    x_label: str = "",
    y_label: str = "",
    x_span: tuple[float, float] | None = None,
    y_span: tuple[float, float] | None = None,
    lines: Mapping[str, float] | None = None,
    label: str = "",
) -> Drawing:
    """Lines with a legend: deletion curves, trainings. Colours, dashes and the mark at the end tell them apart.

    Args:
        given: up to 32 differ in colour and dash; NaN breaks a line.
        x_label: below.
        y_label: at the side.
        x_span: what the axis shows at least.
        y_span: the same, upwards.
        lines: horizontal ones, by name.
        label: what the figure shows, for those who do not see it.

    >>> curves([Curve("inherent", [0, 0.5, 1], [0.9, 0.8, 0.1])], x_label="removed", y_label="probability").width
    820.0
    """
    lines = {name: value for name, value in (lines or {}).items() if math.isfinite(value)}
    room = min(max([breadth(c.label) for c in given] + [40]), _MOST_LABEL)
    left, right, top = 70.0, WIDTH - room - 60, 12.0
    bottom = top + max(320.0, 20.0 * len(given))
    across = axis_over([v for c in given for v in c.x], left, right, x_span, log=False)
    upwards = axis_over([v for c in given for v in (*c.y, *c.low, *c.high)] + [*lines.values()], bottom, top, y_span, log=False)
    shapes = _ground(across, top, bottom, x_label)
    for tick in upwards.ticks():
        y = upwards.at(tick)
        shapes += [Line(((left, y), (right, y)), "line"), Words(left - 8, y, _tick(tick), 12, "quiet", "end")]
    shapes.append(Words(14, (top + bottom) / 2, y_label, 13, "ink", "middle", turned=True, most=bottom - top))
    for name, value in lines.items():
        y = upwards.at(value)
        shapes += [Line(((left, y), (right, y)), "quiet", 1.2, (4, 3)), Words(left + 6, y - 9, name, 12, "quiet")]
    for i, curve in enumerate(given):
        shapes += _curve(curve, i, across, upwards)
        y = top + 10 + 20 * i
        dash, ink = _style(i)
        shapes += [Line(((right + 18, y), (right + 44, y)), ink, 2, dash), Dot(right + 31, y, 3.4, ink, MARKS[i % 4])]
        shapes.append(Words(right + 52, y, curve.label, 13, most=room + 8))
    return Drawing(WIDTH, bottom + 44, tuple(shapes), label or f"Curves: {y_label} against {x_label}")


def _style(i: int) -> tuple[tuple[float, ...], str]:
    """Neighbours differ in both; a colour that comes again has another dash."""
    return DASHES[(i + i // 8) % len(DASHES)], series_ink(i)


def _curve(curve: Curve, i: int, across: Axis, upwards: Axis) -> list[Shape]:
    dash, ink = _style(i)
    shapes: list[Shape] = []
    if curve.low and curve.high:
        edge = (
            [(x, v) for x, v in zip(curve.x, curve.low, strict=True)],
            [(x, v) for x, v in zip(curve.x, curve.high, strict=True)],
        )
        around = [
            p
            for part in (_pieces(edge[0]), [list(reversed(piece)) for piece in _pieces(edge[1])])
            for piece in part
            for p in piece
        ]
        shapes.append(Area(tuple((across.at(x), upwards.at(y)) for x, y in around), ink, 0.15))
    for piece in _pieces(list(zip(curve.x, curve.y, strict=True))):
        places = tuple((across.at(x), upwards.at(y)) for x, y in _thinned(piece))
        shapes += [Line(places, ink, 2, dash, curve.label), Dot(*places[-1], 3.4, ink, MARKS[i % 4], title=curve.label)]
    return shapes


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """The points between those that are not finite."""
    pieces: list[list[Point]] = [[]]
    for point in points:
        if _finite(*point):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _thinned(points: list[Point]) -> list[Point]:
    """At most some hundred points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= _MANY:
        return points
    step = math.ceil(2 * (len(points) - 2) / (_MANY - 2))
    kept = [points[0]]
    for i in range(1, len(points) - 1, step):
        part = points[i : min(i + step, len(points) - 1)]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(ends)
    return [*kept, points[-1]]
