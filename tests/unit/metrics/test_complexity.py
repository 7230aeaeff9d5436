"""Gini coefficient and entropy: twins, closed forms, laws, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import complexity as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import entropy, gini

BOTH = pytest.mark.parametrize("metric", [gini, entropy])
NUMBERS = st.one_of(st.just(0.0), st.floats(-10, 10).filter(lambda v: abs(v) > 1e-6))
MAPS = st.integers(1, 12).flatmap(lambda p: st.lists(st.lists(NUMBERS, min_size=p, max_size=p), min_size=1, max_size=4))


@given(rows=MAPS)
def test_every_map_has_its_twins_numbers(rows: list[list[float]]) -> None:
    maps = torch.tensor(rows, dtype=torch.float64)
    for metric, slow in ((gini, twin.gini), (entropy, twin.entropy)):
        assert metric(maps).tolist() == pytest.approx([slow(row) for row in rows], rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("row", "unequal", "spread"),
    [
        ([3.0] * 7, 0.0, math.log(7)),
        ([0.0, 0.0, -2.0, 0.0, 0.0], 1 - 1 / 5, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 0.25, 1.2798542),
        ([0.0, 0.0, 1.0, 1.0], 0.5, math.log(2)),
        ([5.0], 0.0, 0.0),
    ],
)
def test_closed_forms(row: list[float], unequal: float, spread: float) -> None:
    maps = torch.tensor([row], dtype=torch.float64)
    assert float(gini(maps)) == pytest.approx(unequal, abs=1e-9)
    assert float(entropy(maps)) == pytest.approx(spread, abs=1e-6)


@BOTH
def test_a_map_of_zeros_is_undefined_and_only_that_one(metric: object) -> None:
    maps = torch.zeros(3, 2, 2)
    maps[1, 0, 1] = 1e-30
    assert metric(maps).isnan().tolist() == [True, False, True]  # type: ignore[operator]


@given(rows=MAPS, power=st.integers(-30, 30))
def test_sign_scale_order_and_neighbours_do_not_matter(rows: list[list[float]], power: int) -> None:
    maps = torch.tensor(rows, dtype=torch.float64)
    for metric in (gini, entropy):
        found = metric(maps)
        assert torch.equal(metric(-maps * 2.0**power).nan_to_num(-1), found.nan_to_num(-1))
        torch.testing.assert_close(metric(maps.flip(1)), found, equal_nan=True)
        assert torch.equal(torch.cat([metric(one[None]) for one in maps]).nan_to_num(-1), found.nan_to_num(-1))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_half_precision_and_integers_do_not_overflow(metric: object, dtype: torch.dtype) -> None:
    maps = torch.full((2, 300, 300), 60_000, dtype=dtype)
    maps[1, 0, 0] = 0
    found = metric(maps)  # type: ignore[operator]
    assert found.dtype == torch.float32 and found.isfinite().all()
    torch.testing.assert_close(found, metric(maps.double()).float())  # type: ignore[operator]
    assert float(metric(torch.full((1, 4), 3e38))) == pytest.approx(0.0 if metric is gini else math.log(4))  # type: ignore[operator]


@BOTH
def test_any_number_of_space_axes_and_the_callers_tensor_stays(metric: object) -> None:
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    before = maps.detach().clone()
    found: Tensor = metric(maps)  # type: ignore[operator]
    torch.testing.assert_close(found, metric(maps.flatten(1)))  # type: ignore[operator]
    assert not found.requires_grad and torch.equal(maps, before)


@BOTH
def test_what_is_no_map_is_refused(metric: object) -> None:
    maps = torch.ones(3, 2, 2)
    maps[2, 0, 0] = math.nan
    with pytest.raises(InputError, match="map of image 2 has numbers that are not finite"):
        metric(maps)  # type: ignore[operator]
    with pytest.raises(ArgumentTypeError, match="must be a tensor"):
        metric([[1.0]])  # type: ignore[operator]


def test_the_twin_sees_a_wrong_metric() -> None:
    row = [1.0, 2.0, 3.0, 4.0]
    values = torch.tensor(row, dtype=torch.float64)
    shifted = float(((2 * torch.arange(4) - 4 - 1) * values).sum() / (4 * values.sum()))  # places counted from 0
    in_bits = -sum(v / 10 * math.log2(v / 10) for v in row)
    unsorted = float(((2 * torch.arange(1, 5) - 5) * values.flip(0)).sum() / (4 * values.sum()))
    for wrong in (shifted, unsorted):
        assert abs(wrong - twin.gini(row)) > 0.1
    assert abs(in_bits - twin.entropy(row)) > 0.1


@pytest.mark.parity
def test_quantus_agrees() -> None:
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    maps = torch.rand(4, 8, 8, dtype=torch.float64)
    theirs = {gini: quantus.Sparseness, entropy: quantus.Complexity}
    for metric, other in theirs.items():
        measure = other(normalise=False, abs=True, disable_warnings=True)
        scores = measure.evaluate_batch(x_batch=maps.numpy(), a_batch=maps[:, None].numpy().copy())
        assert metric(maps).tolist() == pytest.approx(list(scores), abs=1e-6)
