from __future__ import annotations

import math

import pytest
import torch

from tests.compared import comparison
from torchbcos.evaluation.curves import curve_figures, fractions_of
from torchbcos.rendering.shapes import Line


def test_a_curve_is_the_mean_of_the_items_that_have_one() -> None:
    facts = comparison()
    values = torch.tensor([[1.0, 0.0], [0.5, 1.0], [math.nan, math.nan]])
    given = {
        ("embedded", "inherent", "deletion"): {"most": values, "least": values},
        ("plain twin", "rise", "deletion"): {"most": values},
    }
    figures = curve_figures(facts, facts["metrics"][1], given)
    assert [words for words, _ in figures] == [
        "deletion on embedded, most important first: mean over items",
        "deletion on embedded, least important first: mean over items",
        "deletion on plain twin, most important first: mean over items",
    ]  # fmt: skip
    line = next(s for s in figures[0][1].shapes if isinstance(s, Line) and s.title == "inherent")
    assert line.points[1][1] > line.points[0][1]  # from 0.75 down to 0.5
    assert curve_figures(facts, facts["metrics"][0], given) == []


@pytest.mark.parametrize(
    ("given", "points", "wanted"),
    [(None, 3, [0, 0.5, 1]), (2, 3, [0, 0.5, 1]), ("0.25/2", 3, [0, 0.125, 0.25]), ([0, 0.1, 1], 3, [0, 0.1, 1])],
)
def test_fractions(given: object, points: int, wanted: list[float]) -> None:
    assert fractions_of({"settings": {"fractions": given}}, points) == wanted
