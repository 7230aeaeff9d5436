"""What a stranger's file says is believed where it fits, and never an error."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos.rendering.facts import Facts, facts_of

GOOD = {"spacing": [2.5, 1.0, 0.5], "orientation": "SPL", "window": [-160, 240], "unit": "HU", "channels": ["T1", "T2"]}


def test_what_fits_is_taken() -> None:
    found = facts_of(GOOD, None, 3, 2)
    assert found.spacing == (2.5, 1.0, 0.5) and found.aspect(0, 1) == 2.5 and found.aspect(1, 2) == 2.0
    assert found.ends == (("I", "S"), ("A", "P"), ("R", "L")) and found.along(0) == ", from feet to head"
    assert found.stored(0.5) == "40.00 HU" and found.channels == ("T1", "T2")
    assert facts_of({**GOOD, "orientation": ["head", "posterior", "Left"]}, None, 3, 2).ends == found.ends


def test_a_callers_own_spacing_goes_first_and_must_fit() -> None:
    assert facts_of(GOOD, [1, 1, 1], 3, 2).aspect(0, 1) == 1 and facts_of(None, 0.002, 1, 1).spacing == (0.002,)
    for wrong in ([1, 2], [1, 0, 1], [1, math.nan, 1], [1, 1e9, 1], [1, None, 1], 2.0):
        with pytest.raises(InputError, match="spacing must be 3 numbers above 0"):
            facts_of(None, wrong, 3, 1)  # type: ignore[arg-type]


def test_a_distance_of_slices_that_nobody_knows_leaves_the_others() -> None:
    found = facts_of({"spacing": [None, 2.0, 1.0]}, None, 3, 1)
    assert found.aspect(0, 1) == 1 and found.aspect(1, 2) == 2


@pytest.mark.parametrize("key", list(GOOD))
@given(value=st.one_of(
    st.none(), st.text(max_size=4), st.integers(), st.floats(), st.lists(st.one_of(st.floats(), st.text(max_size=2)), max_size=4),
    st.dictionaries(st.text(max_size=1), st.none(), max_size=3), st.just([10**400, 1, 1]),
))  # fmt: skip
def test_odd_facts_are_left_out(key: str, value: Any) -> None:
    found = facts_of({**GOOD, key: value}, None, 3, 2)
    assert isinstance(found, Facts) and found.aspect(0, 2) > 0 and isinstance(found.stored(0.5), str)
    assert facts_of({key: 3}, None, 3, 2) == Facts()
