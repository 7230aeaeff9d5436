"""Ranks and agreement of rows: against SciPy, and where nothing can be said."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchbcos import BcosError
from torchbcos.metrics.ranks import average_ranks, kendall_tau_b, levelled, pearson, spearman, tau_b_of_all

KINDS = {"pearson": pearson, "spearman": spearman, "kendall": kendall_tau_b}
OTHERS = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
FEW = st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0])  # many ties
ROWS = st.integers(2, 9).flatmap(lambda m: st.lists(st.tuples(FEW, FEW), min_size=m, max_size=m))


def theirs(kind: str, a: list[float], b: list[float]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant row
        return float(OTHERS[kind](a, b)[0])


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=50, derandomize=True, deadline=None)
@given(rows=ROWS)
def test_agreement_is_that_of_scipy(kind: str, rows: list[tuple[float, float]]) -> None:
    a, b = (torch.tensor(row, dtype=torch.float64) for row in zip(*rows, strict=True))
    found = float(KINDS[kind](a, b))
    assert found == pytest.approx(theirs(kind, a.tolist(), b.tolist()), abs=1e-12, nan_ok=True)
    assert math.isnan(found) == (len(set(a.tolist())) == 1 or len(set(b.tolist())) == 1)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(values=st.lists(FEW, min_size=1, max_size=12))
def test_equal_numbers_share_the_mean_of_their_ranks(values: list[float]) -> None:
    ranks = average_ranks(torch.tensor(values))
    assert ranks.tolist() == stats.rankdata(values).tolist()
    first = torch.tensor(values).argsort(stable=True).argsort() + 1  # raster order decides: a fault that ties must show
    assert torch.equal(ranks, first.double()) == (len(set(values)) == len(values))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_row_is_alone(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, 30, generator=generator)
    a[1, 2], b[0, 0] = 7.0, math.nan
    b[2, 3, 4] = math.inf
    found = KINDS[kind](a, b)
    assert found.shape == (3, 4) and found.dtype == torch.float32
    for i in range(3):
        for j in range(4):
            assert float(found[i, j]) == pytest.approx(float(KINDS[kind](a[i, j], b[i, j])), abs=1e-7, nan_ok=True)
    assert found.isnan().sum() == (2 if kind != "pearson" else 3) and found[1, 2].isnan() and found[0, 0].isnan()


def test_rankings_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(1)).mul(3).round()
    whole = kendall_tau_b(a, b)
    monkeypatch.setattr("torchbcos.metrics.ranks._PAIRS", 600)
    assert torch.equal(kendall_tau_b(a, b), whole)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_numbers_of_any_size(size: float) -> None:
    a = torch.tensor([1.0, 2.0, 4.0, 3.0], dtype=torch.float64) * size
    assert float(pearson(a, 1e100 * a)) == pytest.approx(1) and float(spearman(a, -a)) == -1 and float(kendall_tau_b(a, a)) == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_cannot_be_compared(kind: str) -> None:
    f: Callable[..., torch.Tensor] = KINDS[kind]
    with pytest.raises(BcosError, match=r"of the same shape are compared, not \(3,\) and \(4,\)"):
        f(torch.zeros(3), torch.zeros(4))
    with pytest.raises(BcosError, match=r"a must be a tensor .* not list"):
        f([1.0], [2.0])
    with pytest.raises(BcosError, match="b must be rows of real numbers"):
        f(torch.zeros(2), torch.zeros(2, dtype=torch.complex64))
    assert f(torch.zeros(1), torch.zeros(1)).isnan()


@given(row=st.lists(FEW, min_size=1, max_size=9), seed=st.integers(0, 999))
def test_numbers_that_rounding_alone_tells_apart_are_one(row: list[float], seed: int) -> None:
    exact = torch.tensor([row] * 3, dtype=torch.float64)
    rounded = exact + 1e-9 * torch.rand(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.equal(average_ranks(levelled(rounded, 1e-8)), average_ranks(exact))
    assert torch.equal(levelled(exact, 0.0), exact)
    each = torch.tensor([[1e-8], [0.0], [1e-8]], dtype=torch.float64)
    found = levelled(rounded, each)
    assert torch.equal(found[1], rounded[1]) and torch.equal(average_ranks(found[::2]), average_ranks(exact[::2]))


def test_what_is_not_finite_is_no_level() -> None:
    row = torch.tensor([math.inf, -math.inf, math.nan, 1.0, math.inf, 1.05])
    assert torch.equal(
        levelled(row, 0.1).nan_to_num(9.0), torch.tensor([math.inf, -math.inf, 9.0, 1, math.inf, 1]).double().nan_to_num(9.0)
    )


@given(data=st.data(), rows=st.integers(1, 4), size=st.integers(1, 6))
def test_all_rows_at_once_are_two_at_a_time_where_both_have_a_number(data: st.DataObject, rows: int, size: int) -> None:
    number = st.one_of(FEW, st.just(math.nan), st.just(math.inf))
    drawn = torch.tensor([data.draw(st.lists(number, min_size=size, max_size=size)) for _ in range(rows)], dtype=torch.float64)
    found = tau_b_of_all(drawn.expand(2, rows, size))
    assert found.shape == (2, rows, rows)
    for i in range(rows):
        for j in range(rows):
            both = ~(drawn[i].isnan() | drawn[j].isnan())
            expected = float(kendall_tau_b(drawn[i, both], drawn[j, both])) if both.any() else math.nan
            assert found[:, i, j].tolist() == pytest.approx([expected] * 2, abs=1e-12, nan_ok=True)
