"""What is printed of a metric: means, percentiles, and how many images have no number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import summary

NUMBERS = st.one_of(st.just(math.nan), st.floats(-10, 10))


@given(row=st.lists(NUMBERS, max_size=30))
def test_a_summary_is_what_numpy_says(row: list[float]) -> None:
    found = summary(torch.tensor(row, dtype=torch.float64))
    defined = [v for v in row if not math.isnan(v)]
    assert list(found) == ["mean", "mean_defined", "n", "undefined", "p5", "p25", "p50", "p75"]
    assert (int(found["n"]), int(found["undefined"])) == (len(row), len(row) - len(defined))
    expected = {"mean": sum(defined) / len(row) if row else math.nan}
    expected["mean_defined"] = sum(defined) / len(defined) if defined else math.nan
    for share in (5, 25, 50, 75):
        expected[f"p{share}"] = float(np.percentile(defined, share)) if defined else math.nan
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_closed_forms() -> None:
    found = summary(torch.tensor([0.75, 0.25, math.nan, 1.0]))
    assert (float(found["mean"]), float(found["p50"])) == (0.5, 0.75)
    assert float(found["mean_defined"]) == pytest.approx(2 / 3)
    assert all(value.dim() == 0 for value in found.values())
    endless = summary(torch.tensor([1.0, math.inf]))
    assert math.isinf(endless["mean"]) and float(endless["p5"]) == math.inf  # not NaN


def test_a_mean_of_float32_is_one_of_float64() -> None:
    values = torch.full((2**20,), 0.1)
    assert float(summary(values)["mean"]) == pytest.approx(float(values[0].double()), rel=1e-14)


def test_what_is_no_row_of_numbers() -> None:
    with pytest.raises(ArgumentTypeError, match="values must be a tensor"):
        summary([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"one real number an image, not \(1, 2\)"):
        summary(torch.zeros(1, 2))
