"""What a comparison says of its numbers: twin, laws, closed forms, SciPy, coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import comparing as twin
from tests.reference import rankings as ranks
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.evaluation import statistics
from torchbcos.evaluation.statistics import item_means, pair, rank_agreements, rank_sentences, row, sign_test
from torchbcos.metrics import rank_agreement, summary

NAN, INF = math.nan, math.inf
NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, -2.0, NAN])
ENDS = ("mean_low", "mean_high", "median_low", "median_high")
RULES = st.sampled_from(["zero", "skip"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tables(data: st.DataObject, count: int = 1) -> list[list[list[float]]]:
    """Numbers of as many methods on the same items, cells of an item in a list."""
    items, cells = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    item = st.lists(NUMBERS, min_size=cells, max_size=cells)
    return [data.draw(st.lists(item, min_size=items, max_size=items)) for _ in range(count)]


def sets(items: int, samples: int, seed: int = 0) -> list[list[int]]:
    """The sets that are drawn."""
    return torch.randint(items, (samples, items), generator=seeded(seed)).tolist() if items else []  # type: ignore[no-any-return]


def same(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert found == pytest.approx(dict(expected), abs=1e-9, nan_ok=True)


@given(data=st.data(), undefined=RULES)
def test_a_row_is_its_twins(data: st.DataObject, undefined: str) -> None:
    [items] = tables(data)
    found = row(torch.tensor(items, dtype=torch.float64), undefined=undefined, samples=40)
    same(found, twin.row(items, undefined, sets(len(items), 40)))


@given(data=st.data(), undefined=RULES, lower=st.booleans())
def test_a_pair_is_its_twins(data: st.DataObject, undefined: str, lower: bool) -> None:
    a, b = tables(data, 2)
    found = pair(*(torch.tensor(one, dtype=torch.float64) for one in (a, b)), lower=lower, undefined=undefined, samples=40)
    same(found, twin.pair(a, b, lower, undefined, sets(len(twin.apart(a, b, undefined)), 40)))


@given(data=st.data(), undefined=RULES)
def test_the_order_of_items_and_of_cells_changes_no_number_of_the_row(data: st.DataObject, undefined: str) -> None:
    [items] = tables(data)
    values = torch.tensor(items, dtype=torch.float64)
    order = data.draw(st.permutations(range(len(items))))
    turned = values[order].flip(1)
    first, second = (row(one, undefined=undefined, samples=0) for one in (values, turned))
    same(second, first)


@given(data=st.data(), undefined=RULES, factor=st.sampled_from([0.5, 3.0, 1e-3]))
def test_a_scale_is_a_scale(data: st.DataObject, undefined: str, factor: float) -> None:
    a, b = (torch.tensor(one, dtype=torch.float64) for one in tables(data, 2))
    counts = {"n", "values", "undefined", "better", "worse", "tied", "p"}
    rows = row(a, undefined=undefined, samples=30), row(factor * a, undefined=undefined, samples=30)
    pairs = (pair(x, y, undefined=undefined, samples=30) for x, y in ((a, b), (factor * a, factor * b)))
    for before, after in (rows, tuple(pairs)):
        same(after, {name: v if name in counts else v * factor for name, v in before.items()})


@given(data=st.data(), lower=st.booleans())
def test_a_pair_the_other_way_round(data: st.DataObject, lower: bool) -> None:
    a, b = (torch.tensor(one, dtype=torch.float64) for one in tables(data, 2))
    one, other = pair(a, b, lower=lower, samples=30), pair(b, a, lower=lower, samples=30)
    turned = {"difference": -other["difference"], "low": -other["high"], "high": -other["low"]}
    turned |= {"better": other["worse"], "worse": other["better"]}
    same(one, {**other, **turned})


def test_closed_forms_of_a_row() -> None:
    found = row(torch.tensor([[1.0, 0.5], [0.0, NAN], [1.0, 1.0]]))
    assert (found["n"], found["values"], found["undefined"]) == (3, 6, 1)
    assert found["mean"] == pytest.approx(3.5 / 6) and found["median"] == found["p50"] == 0.75
    skipped = row(torch.tensor([[1.0, 0.5], [0.0, NAN], [1.0, 1.0]]), undefined="skip")
    assert skipped["mean"] == pytest.approx(3.5 / 5) and skipped["median"] == 1.0 and skipped["undefined"] == 1
    even = row(torch.full((7, 3), 0.1, dtype=torch.float64))
    assert even["mean"] == even["mean_low"] == even["mean_high"] == even["median_low"] == even["median_high"] == 0.1
    one = row(torch.tensor([[1.0, 0.0]]))
    assert one["mean"] == 0.5 and all(math.isnan(one[end]) for end in ENDS)
    # of two items, a quarter of the sets holds one of them alone, and half of them both
    two = row(torch.tensor([0.0, 1.0]))
    assert (two["mean_low"], two["mean_high"], two["median"]) == (0.0, 1.0, 0.5)


def test_without_undefined_numbers_a_row_is_the_summary() -> None:
    values = torch.rand(40, 4, dtype=torch.float64, generator=seeded(1))
    found = row(values)
    same({name: found[name] for name in ("mean", "p5", "p25", "p50", "p75", "undefined")},
         {name: float(v) for name, v in summary(values.flatten()).items() if name not in ("n", "mean_defined")})  # fmt: skip
    values[3, 2] = NAN
    assert row(values, undefined="skip")["p25"] == float(summary(values.flatten())["p25"])
    assert row(values)["mean"] == pytest.approx(float(summary(values.flatten())["mean"]))


@pytest.mark.filterwarnings("error")
def test_nothing_defined_is_nan_and_no_warning() -> None:
    for values in (torch.full((4, 2), NAN), torch.zeros(0, 2)):
        for undefined in ("zero", "skip"):
            found = row(values, undefined=undefined)
            assert found["undefined"] == found["values"] == values.numel()
            assert len(found) == 13 and sum(math.isnan(v) for v in found.values()) == 10
    found = pair(torch.full((4, 2), NAN), torch.ones(4, 2))
    assert (found["n"], found["better"], found["worse"], found["tied"]) == (0, 0, 0, 0)
    assert all(math.isnan(found[name]) for name in ("difference", "low", "high", "p"))


def test_infinite_numbers_stay_infinite() -> None:
    found = row(torch.tensor([[1.0, INF], [2.0, 3.0], [1.0, 1.0]]))
    assert found["mean"] == INF and found["mean_high"] == INF and found["mean_low"] < 3 and found["median"] == 1.5
    assert row(torch.tensor([-INF, -INF, 1.0]))["median"] == -INF
    assert math.isnan(row(torch.tensor([-INF, INF]))["mean"])
    both = pair(torch.tensor([INF, 1.0, INF]), torch.tensor([INF, 2.0, 3.0]))
    assert (both["tied"], both["worse"], both["better"], both["difference"]) == (1, 1, 1, INF)


def test_cells_of_a_grid_stay_together() -> None:
    """Nine equal cells of a grid are one number, not nine: the interval is that of the items."""
    items = torch.rand(30, 1, dtype=torch.float64, generator=seeded(2))
    wide, apart = row(items), row(items.expand(30, 9).reshape(-1))
    together = row(items.expand(30, 9))
    same({name: together[name] for name in ENDS}, {name: wide[name] for name in ENDS})
    assert apart["mean_high"] - apart["mean_low"] < 0.5 * (wide["mean_high"] - wide["mean_low"])  # as wrong code would have it


def test_undefined_items_of_a_pair() -> None:
    a, b = torch.tensor([1.0, 2.0, NAN, NAN]), torch.tensor([0.5, NAN, 1.0, NAN])
    high = pair(a, b)
    assert (high["n"], high["better"], high["worse"], high["tied"], high["difference"]) == (4, 2, 1, 1, 0.375)
    low = pair(a, b, lower=True)
    assert (low["n"], low["better"], low["worse"], low["difference"]) == (1, 0, 1, 0.5)
    assert pair(a, b, undefined="skip")["better"] == 1
    cells = pair(torch.tensor([[0.2, NAN]]), torch.tensor([[0.3, 0.5]]), lower=True)
    assert cells["n"] == 1 and cells["better"] == 1 and cells["difference"] == pytest.approx(-0.2)
    assert item_means(torch.tensor([[0.2, NAN], [1.0, 1.0]])).tolist() == pytest.approx([0.1, 1.0])


def test_what_rounding_makes_is_tied() -> None:
    a = torch.rand(50, 1, generator=seeded(3))
    found = pair(a, a * (1 + 2e-7))
    assert found["tied"] == 50 and found["p"] == 1.0
    assert pair(a, a * (1 + 1e-5))["worse"] == 50  # and what it does not make is not


def test_pairs_are_surer_than_rows() -> None:
    """Items that both methods find hard do not blur what they are apart."""
    hard = torch.rand(200, 1, dtype=torch.float64, generator=seeded(4))
    a, b = (hard + 0.02 * torch.randn(200, 1, dtype=torch.float64, generator=seeded(s)) for s in (5, 6))
    a = a + 0.03
    one, two, both = row(a), row(b), pair(a, b)
    assert one["mean_low"] < two["mean_high"] and both["low"] > 0 and both["p"] < 1e-6
    assert both["high"] - both["low"] < 0.2 * (one["mean_high"] - one["mean_low"] + two["mean_high"] - two["mean_low"])


@given(better=st.integers(0, 400), worse=st.integers(0, 400))
def test_the_sign_test_is_its_twins_and_scipys(better: int, worse: int) -> None:
    assert sign_test(better, worse) == pytest.approx(float(twin.sign_test(better, worse)), rel=1e-12)
    if better + worse:
        assert sign_test(better, worse) == pytest.approx(scipy.stats.binomtest(better, better + worse).pvalue, rel=1e-9)


def test_the_sign_test_of_many_items() -> None:
    for better, worse in ((2400, 2600), (9_950, 10_250), (5_001, 5_000), (499_000, 501_000)):
        expected = scipy.stats.binomtest(better, better + worse).pvalue
        assert sign_test(better, worse) == sign_test(worse, better) == pytest.approx(expected, rel=1e-6)
    assert (
        sign_test(0, 5000) == 0.0 and sign_test(0, 0) == 1.0 and sign_test(5, 0) == 2 / 32 and sign_test(500_000, 500_000) == 1.0
    )


def test_the_interval_is_about_scipys() -> None:
    values = torch.rand(60, dtype=torch.float64, generator=seeded(7)) ** 3
    found = row(values, samples=4000)
    for name, statistic in (("mean", lambda x, axis: x.mean(axis)), ("median", lambda x, axis: np.median(x, axis))):
        theirs = scipy.stats.bootstrap((values.numpy(),), statistic, n_resamples=4000, method="percentile", random_state=0)
        width = theirs.confidence_interval.high - theirs.confidence_interval.low
        assert found[f"{name}_low"] == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
        assert found[f"{name}_high"] == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


@pytest.mark.slow
def test_the_interval_holds_the_mean_in_most_data_sets() -> None:
    """Grids of 4 cells that are not independent: nearly 95 % of the intervals, and far fewer if cells were drawn one by one."""
    covered = naive = 0
    generator = seeded(0)
    for _ in range(500):
        values = torch.randn(200, 1, generator=generator) + 0.5 * torch.randn(200, 4, generator=generator)
        found, cells = (row(v, samples=600, generator=generator) for v in (values, values.flatten()))
        covered += found["mean_low"] <= 0 <= found["mean_high"]
        naive += cells["mean_low"] <= 0 <= cells["mean_high"]
    assert 0.93 * 500 <= covered <= 0.97 * 500
    assert naive < 0.8 * 500


def test_the_same_sets_are_drawn_again_and_nothing_global_moves() -> None:
    before = torch.get_rng_state()
    values = torch.rand(30, 2, dtype=torch.float64, generator=seeded(8))
    assert row(values) == row(values) == row(values, generator=seeded(0)) != row(values, generator=seeded(1))
    assert pair(values, values.flip(0)) == pair(values, values.flip(0), generator=seeded(0))
    assert torch.equal(before, torch.get_rng_state())
    kept = statistics._kept(30, 2000).clone()
    row(values)
    assert torch.equal(kept, statistics._kept(30, 2000))


def test_parts_are_drawn_where_all_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(20, 3, dtype=torch.float64, generator=seeded(9))
    whole = row(values, samples=50)
    monkeypatch.setattr(statistics, "_PART", 120)  # of 20 items: 6 sets at a time
    same(row(values, samples=50), whole)


def test_metrics_of_the_same_items_are_ranked() -> None:
    generator = seeded(10)
    quality = torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None]
    values = {
        "grid-pointing": (quality + torch.randn(4, 20, generator=generator))[:, :, None].expand(4, 20, 4),
        "deletion": -quality + torch.randn(4, 30, generator=generator), "road": quality + torch.randn(4, 30, generator=generator),
    }  # fmt: skip
    groups = {"grid-pointing": "grids", "deletion": "pictures", "road": "pictures"}
    records = rank_agreements(values, groups=groups, lower=["deletion"], samples=100)
    assert [(one["first"], one["second"]) for one in records] == [
        ("grid-pointing", "deletion"), ("grid-pointing", "road"), ("deletion", "road"),
    ]  # fmt: skip
    for one in records:
        first, second = str(one["first"]), str(one["second"])
        rows = [[(-1 if name == "deletion" else 1) * float(v.mean()) for v in values[name]] for name in (first, second)]
        assert one["tau"] == pytest.approx(ranks.tau_b(*rows))
        assert float(one["low"]) <= float(one["tau"]) <= float(one["high"])
    alone = rank_agreement({name: values[name] for name in ("deletion", "road")}, lower=["deletion"], samples=0)
    assert records[2]["tau"] == float(alone.tau[0, 1])


def test_methods_without_a_number_are_left_out_of_the_two() -> None:
    up = torch.tensor([[1.0], [2.0], [3.0], [NAN]]).expand(4, 3)
    other = torch.tensor([[1.0], [3.0], [2.0], [9.0]]).expand(4, 3)
    [one] = rank_agreements({"a": up, "b": other}, samples=20)
    assert one["tau"] == pytest.approx(1 / 3) and one["low"] == one["high"] == one["tau"]
    [empty] = rank_agreements({"a": up[2:], "b": other[2:]}, samples=20)
    assert math.isnan(float(empty["tau"])) and math.isnan(float(empty["low"]))
    assert rank_agreements({"a": up}) == rank_agreements({}) == []
    assert math.isnan(float(rank_agreements({"a": other, "b": other}, samples=0)[0]["low"]))


def test_undefined_numbers_count_in_rankings_as_in_rows() -> None:
    """A method that has one good number and no other is worse than one that is always half as good."""
    some, always = torch.tensor([1.0, NAN, NAN, NAN]), torch.full((4,), 0.5)
    high = {"a": torch.stack([some, always]), "b": torch.stack([0 * always, always])}
    assert rank_agreements(high, samples=0)[0]["tau"] == 1.0
    assert rank_agreements(high, lower=["a"], samples=0)[0]["tau"] == 1.0  # low: its mean is 1 and not 0.25


def test_metrics_that_rank_differently_are_said() -> None:
    rows: list[tuple[str, str, float | None, float | None, float | None]] = [
        ("deletion", "grid-pointing", -0.5, -0.8, -0.1), ("a", "b", -0.5, -0.8, 0.2), ("a", "c", NAN, NAN, NAN),
        ("d", "e", -1.0, None, None), ("d", "f", None, None, None),
    ]  # fmt: skip
    records = [dict(zip(("first", "second", "tau", "low", "high"), one, strict=True)) for one in rows]
    assert rank_sentences(records) == [
        "deletion and grid-pointing rank the methods differently (τ-b -0.50, 95 % between -0.80 and -0.10).",
        "d and e rank the methods differently (τ-b -1.00).",
    ]


def test_what_does_not_fit() -> None:
    with pytest.raises(ArgumentTypeError, match=r"values must be a tensor \(items, V\), not list: torch.as_tensor"):
        row([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"real numbers \(items, V\) or \(items,\), not \(1, 1, 1\)"):
        row(torch.zeros(1, 1, 1))
    with pytest.raises(InputError, match="undefined is 'zero' or 'skip', not 'zeros'"):
        row(torch.zeros(2), undefined="zeros")
    with pytest.raises(InputError, match="samples must be 0 or more"):
        row(torch.zeros(2), samples=-1)
    with pytest.raises(InputError, match=r"on the same items: a is \(2, 1\), and b is \(3, 1\)"):
        pair(torch.zeros(2), torch.zeros(3))
    with pytest.raises(InputError, match="counts of items, whole numbers from 0, not -1 and 3"):
        sign_test(-1, 3)
    with pytest.raises(InputError, match=r"not True and 1\.5"):
        sign_test(True, 1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'a' has \(3,\)"):
        rank_agreements({"a": torch.zeros(3), "b": torch.zeros(3)})
    with pytest.raises(ArgumentTypeError, match="a mapping from names of metrics"):
        rank_agreements([torch.zeros(2, 2)])  # type: ignore[arg-type]


def test_the_twin_sees_a_wrong_statistic() -> None:
    values: Tensor = torch.tensor([[0.0, 1.0], [1.0, NAN], [0.5, NAN], [0.1, 0.9]], dtype=torch.float64)
    drawn = sets(4, 40)
    right, other = twin.row(values.tolist(), "zero", drawn), twin.row(values.tolist(), "skip", drawn)
    assert right["mean"] != other["mean"] and right["median"] != other["median"] and right["mean_low"] != other["mean_low"]
    assert twin.row(values.tolist(), "zero", sets(4, 40, 1))["mean_low"] != right["mean_low"]
    assert float(twin.sign_test(9, 1)) != scipy.stats.binomtest(9, 10, alternative="greater").pvalue
