"""The page of a measurement: every number that was measured stands there, and nothing of a stranger becomes markup."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pages import read_page
from torchbcos.viewer import accuracy_page
from torchbcos.viewer.measured import called

BINS = [
    {"low": 0.0, "high": 0.5, "confidence": 0.3, "accuracy": 0.55, "count": 11},
    {"low": 0.5, "high": 1.0, "confidence": None, "accuracy": None, "count": 0},
]


def result(**more: Any) -> dict[str, Any]:
    plain = {"model": "mine", "data": "d", "split": "val", "pictures": 1234, "notes": [], "unreadable": [], "reliability": BINS}
    return {**plain, "top1": 51.25, "top5": None, "ece": 7.5, "loss": 0.25, **more}


def words(page: str) -> str:
    read = read_page(page)
    assert not read.faults
    return " ".join(" ".join(read.words).split())


def test_every_number_stands_there_with_what_it_is() -> None:
    said = words(accuracy_page(result(temperature=1.5), "Mine"))
    for one in (
        "Mine",
        "1,234 pictures",
        "51.25 %",
        "7.50 %",
        "0.25",
        "30.0",
        "55.0",
        "11",
        "1.5",
        "the first class is the label",
    ):
        assert one in said
    assert "top-5 – " in said and "could not be read" not in said


@given(name=st.text(min_size=1, max_size=20), value=st.floats(0, 100))
def test_labels_and_names_of_strangers_stay_text(name: str, value: float) -> None:
    label = {"label": f"<i>{name}", "ap": value, "f1": None, "known": 9, "positive": 3}
    page = accuracy_page(result(labels=[label], notes=[f"<b>{name}"], model=f"</title><script>{name}"), f"<u>{name}")
    assert f"{value:.2f}" in words(page) and "<i>" not in page and "<u>" not in page and page.count("<script") == 1


@pytest.mark.parametrize("count", [1, 20, 25])
def test_what_could_not_be_read_is_named(count: int) -> None:
    said = words(accuracy_page(result(unreadable=[f"p{i}.jpg" for i in range(count)])))
    assert f"{count:,} pictures could not be read" in said and "p0.jpg" in said and ("and 5 more" in said) == (count == 25)


def test_a_broken_network_is_said_to_be_one() -> None:
    said = words(accuracy_page(result(top1=None, ece=None, loss=None, not_finite=7, reliability=[BINS[1]])))
    assert "7 pictures the network gave NaN" in said and "Can its confidence" not in said and str(math.nan) not in said.split()


def test_names_of_numbers() -> None:
    assert called("top1") == "top-1, %" and called("loss") == "loss" and called("mine") == "mine"
