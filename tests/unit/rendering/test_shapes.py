from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from torchbcos.rendering.shapes import Axis, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_are_round_few_and_inside(low: float, size: float, most: int) -> None:
    found = ticks(low, low + size, most)
    assert len(found) <= most
    air = 1e-6 * size + 1e-9 * abs(low)
    assert all(low - air <= tick <= low + size + air for tick in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)


def test_an_axis_of_one_number() -> None:
    assert ticks(1, 1) == [1]


def test_an_axis_by_factors() -> None:
    axis = Axis(1, 1e4, 0, 100, log=True)
    assert axis.at(100) == 50 and axis.ticks() == [1, 10, 100, 1e3, 1e4]
    assert len(Axis(1e-9, 1e9, 0, 1, log=True).ticks()) <= 6
