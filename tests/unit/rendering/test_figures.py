from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbcos.rendering.figures import WIDTH, Curve, Interval, axis_over, curves, intervals
from torchbcos.rendering.shapes import Area, Dot, Drawing, Line, Words

NAN = math.nan
ANY = st.one_of(st.floats(-10, 10), st.sampled_from([NAN, math.inf, -math.inf]))


def words(drawing: Drawing) -> list[str]:
    return [shape.text for shape in drawing.shapes if isinstance(shape, Words)]


def points(drawing: Drawing) -> list[tuple[float, float]]:
    found = [p for s in drawing.shapes if isinstance(s, (Line, Area)) for p in s.points]
    return found + [(s.x, s.y) for s in drawing.shapes if isinstance(s, (Dot, Words))]


def test_a_median_stands_where_its_number_is() -> None:
    drawing = intervals([Interval("a", 0.5, 0.4, 0.6), Interval("b", 1.0)], lines={"uniform": 0.25}, span=(0, 1))
    first, second = [s for s in drawing.shapes if isinstance(s, Dot) and s.title]
    ticks = {s.text: s.x for s in drawing.shapes if isinstance(s, Words) and s.anchor == "middle"}
    assert (second.x - ticks["0"]) == pytest.approx(2 * (first.x - ticks["0"])) and second.x == pytest.approx(ticks["1"])
    line = next(s for s in drawing.shapes if isinstance(s, Line) and s.title == "uniform")
    assert line.points[0][0] == pytest.approx((3 * ticks["0"] + ticks["1"]) / 4)
    assert "0.500 [0.400, 0.600]" in words(drawing) and "1.00" in words(drawing)


def test_rows_of_one_label_stand_together() -> None:
    rows = [
        Interval("a", 0.1),
        Interval("a", 0.2, series=1),
        Interval("b", 0.3),
        Interval("b", NAN, note="all undefined", series=1),
    ]
    drawing = intervals(rows, series=["one", "two"])
    assert words(drawing).count("a") == 1 and words(drawing).count("b") == 1 and "all undefined" in words(drawing)
    marks = [s.mark for s in drawing.shapes if isinstance(s, Dot) and s.title]
    assert marks == ["circle", "square", "circle"]


def test_names_of_lines_that_are_close_stand_below_each_other() -> None:
    drawing = intervals([Interval("a", 0.5)], lines={"oracle": 1, "even oracle": 0.99, "uniform": 0.25}, span=(0, 1))
    height = {s.text.rpartition(" ")[0]: s.y for s in drawing.shapes if isinstance(s, Words)}
    assert height["oracle"] != height["even oracle"] and height["uniform"] == height["even oracle"]


def test_an_axis_has_room_for_all_numbers() -> None:
    assert axis_over([0.2, 1.5], 0, 1, (0, 1)).high > 1.5 and axis_over([0.2], 0, 1, (0, 1)).high == 1
    assert axis_over([1e-6, 5], 0, 1).log and not axis_over([1e-6, 5], 0, 1, (0, 1)).log and not axis_over([-1, 5000], 0, 1).log
    assert axis_over([], 0, 1).at(0.5) == 0.5
    assert math.isfinite(axis_over([3, 3], 0, 1).at(3)) and math.isfinite(axis_over([0, 0], 0, 1).at(0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ANY, ANY, ANY, ANY, ANY, ANY, ANY), max_size=5), st.lists(ANY, max_size=3))
def test_any_numbers_give_finite_places_on_the_paper(rows: list[tuple[float, ...]], lines: list[float]) -> None:
    given_rows = [Interval(f"m{i}", *row) for i, row in enumerate(rows)]
    drawing = intervals(given_rows, lines={f"l{i}": v for i, v in enumerate(lines)})
    assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= drawing.height + 1 for x, y in points(drawing))
    given_curves = [Curve(f"c{i}", range(len(row)), row) for i, row in enumerate(rows)]
    drawing = curves(given_curves)
    assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= drawing.height + 1 for x, y in points(drawing))


def test_missing_numbers_break_a_curve() -> None:
    drawing = curves([Curve("a", [0, 1, 2, 3, 4], [1, 2, NAN, 3, 4])])
    assert [len(s.points) for s in drawing.shapes if isinstance(s, Line) and s.title == "a"] == [2, 2]


def test_a_long_curve_is_thinned_and_keeps_its_peak() -> None:
    y = [0.0] * 10_000
    y[7777] = 5.0
    drawing = curves([Curve("a", range(10_000), y)])
    line = next(s for s in drawing.shapes if isinstance(s, Line) and s.title == "a")
    heights = [p[1] for p in line.points]
    assert len(line.points) <= 330 and min(heights) < max(heights) - 250
    assert line.points == tuple(sorted(line.points))


def test_curves_differ_in_more_than_colour() -> None:
    drawing = curves([Curve(f"c{i}", [0, 1], [0, i]) for i in range(32)])
    styles = [(s.ink, s.dash) for s in drawing.shapes if isinstance(s, Line) and s.title]
    assert len(set(styles)) == 32 and styles[0][1] != styles[1][1]
