from __future__ import annotations

import math
from itertools import pairwise

from torchbcos.rendering.draw import draw
from torchbcos.rendering.figures_square import Bin, Spot, matrix, reliability, scatter
from torchbcos.rendering.shapes import Area, Dot, Words


def test_a_matrix_has_a_cell_for_each_number_and_letters_that_can_be_read() -> None:
    drawing = matrix(
        ["a", "b"],
        ["c", "d"],
        [[1, -1], [0, math.nan]],
        notes=[
            [
                "sure",
                "",
                "",
            ],
            ["", ""],
        ],
    )
    cells = [s for s in drawing.shapes if isinstance(s, Area)]
    assert [c.ink for c in cells] == ["#2166ac", "#b35806", "#f7f7f7", "#e4e6ea"] and cells[0].title == "a, c: sure"
    assert [s.ink for s in drawing.shapes if isinstance(s, Words) and s.text in ("1.00", "0", "–")] == [
        "#ffffff",
        "#20242b",
        "#20242b",
    ]


def test_empty_figures_can_be_drawn() -> None:
    for drawing in (matrix([], [], []), scatter([]), reliability({}), reliability({"a": []}), scatter([Spot("a", math.nan, 1)])):
        assert draw(drawing, scale=0.5).width > 0


def test_the_diagonal_and_the_points_of_a_reliability_diagram() -> None:
    drawing = reliability({"before": [Bin(0.5, 0.25, 10), Bin(0.9, 0.9, 30), Bin(math.nan, math.nan, 0)]})
    dots = [s for s in drawing.shapes if isinstance(s, Dot)]
    assert len(dots) == 2 and dots[0].title == "10 predictions: sure 0.500, right 0.250"
    assert (dots[0].x - 66, 330 - dots[0].y) == (150, 75)
    bars = [s for s in drawing.shapes if isinstance(s, Area)]
    assert [bar.points[2][1] - bar.points[0][1] for bar in bars] == [20, 60]


def test_names_of_close_points_do_not_cover_each_other() -> None:
    drawing = scatter([Spot(f"method {i}", 1, 0.5) for i in range(4)] + [Spot("far", 9, 0.9)])
    heights = sorted(s.y for s in drawing.shapes if isinstance(s, Words) and s.text.startswith("method"))
    assert all(b - a >= 12 for a, b in pairwise(heights))
