"""Whether metrics rank methods alike: twin, closed forms, intervals, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import rankings as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import RankAgreement, rank_agreement

NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan])


@given(data=st.data(), methods=st.integers(2, 5), images=st.integers(1, 4))
def test_two_metrics_have_their_twins_tau(data: st.DataObject, methods: int, images: int) -> None:
    row = st.lists(NUMBERS, min_size=images, max_size=images)
    rows = [data.draw(st.lists(row, min_size=methods, max_size=methods)) for _ in range(2)]
    scores = {name: torch.tensor(one, dtype=torch.float64) for name, one in zip("ab", rows, strict=True)}
    a, b = (twin.means(one, range(images), sign) for one, sign in zip(rows, (1, -1), strict=True))
    expected = math.nan if any(map(math.isnan, a + b)) else twin.tau_b(a, b)
    found = rank_agreement(scores, lower=["b"], samples=0)
    assert float(found.tau[0, 1]) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert float(found.tau[1, 0]) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_closed_forms() -> None:
    scores = {
        "up": torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None], "down": torch.tensor([4.0, 3.0, 2.0, 1.0])[:, None],
        "swapped": torch.tensor([1.0, 2.0, 4.0, 3.0])[:, None], "tied": torch.tensor([1.0, 1.0, 2.0, 2.0])[:, None],
        "flat": torch.ones(4, 1),
    }  # fmt: skip
    tau = rank_agreement(scores, samples=0).tau
    assert tau[0].tolist() == pytest.approx([1.0, -1.0, 4 / 6, 4 / math.sqrt(6 * 4), math.nan], nan_ok=True)
    assert tau[:, 4].isnan().all()
    turned = rank_agreement(scores, lower=["down"], samples=0).tau
    assert float(turned[0, 1]) == 1.0 and float(turned[0, 2]) == float(tau[0, 2])


def test_intervals_are_of_drawn_images() -> None:
    generator = torch.Generator().manual_seed(3)
    quality = torch.tensor([0.0, 1.0, 2.0])[:, None]
    scores = {name: quality + noise * torch.randn(3, 40, generator=generator) for name, noise in (("sure", 0.1), ("noisy", 9.0))}
    found = rank_agreement(scores, samples=200)
    assert found.low is not None and found.high is not None
    assert (found.low <= found.tau).all() and (found.tau <= found.high).all()
    assert float(found.low[0, 0]) == float(found.high[0, 0]) == 1.0
    assert float(found.low[0, 1]) < float(found.high[0, 1])
    again, other = rank_agreement(scores, samples=200), rank_agreement(scores, samples=200, generator=generator)
    assert torch.equal(again.low, found.low) and other.tau.equal(found.tau)  # type: ignore[arg-type]


def test_a_drawn_set_is_the_twins() -> None:
    scores = {"a": torch.rand(4, 6, dtype=torch.float64), "b": torch.rand(4, 6, dtype=torch.float64)}
    scores["a"][2, 3] = math.nan
    found = rank_agreement(scores, samples=1, generator=torch.Generator().manual_seed(5))
    images = torch.randint(6, (6,), generator=torch.Generator().manual_seed(5)).tolist()
    expected = twin.tau_b(*(twin.means(one.tolist(), images, 1) for one in scores.values()))
    assert found.low is not None and float(found.low[0, 1]) == pytest.approx(expected)


def test_metrics_of_other_images_are_drawn_on_their_own() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = {name: torch.rand(4, n, dtype=torch.float64, generator=generator) for name, n in (("a", 6), ("b", 9), ("c", 6))}
    found = rank_agreement(scores, groups={"a": "x", "b": "y", "c": "x"}, samples=1, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randint(n, (n,), generator=generator).tolist() for n in (6, 9))
    drawn = {"a": x, "b": y, "c": x}
    means = {name: twin.means(one.tolist(), drawn[name], 1) for name, one in scores.items()}
    assert found.names == ("a", "b", "c") and found.low is not None
    for i, first in enumerate(found.names):
        for j, second in enumerate(found.names):
            assert float(found.low[i, j]) == pytest.approx(twin.tau_b(means[first], means[second]))
            whole = [twin.means(scores[name].tolist(), range(scores[name].shape[1]), 1) for name in (first, second)]
            assert float(found.tau[i, j]) == pytest.approx(twin.tau_b(*whole))


def test_methods_that_both_metrics_know() -> None:
    a = torch.tensor([1.0, 2.0, 3.0, math.nan])[:, None]
    b = torch.tensor([1.0, 3.0, 2.0, 4.0])[:, None]
    assert rank_agreement({"a": a, "b": b}, samples=0).tau.isnan().tolist() == [[True, True], [True, False]]
    common = rank_agreement({"a": a, "b": b}, samples=3, common=True)
    assert common.tau.flatten().tolist() == pytest.approx([1.0, 1 / 3, 1 / 3, 1.0])
    assert common.low is not None and common.low.equal(common.tau)


def test_metrics_that_rank_differently_are_named() -> None:
    up = torch.arange(3.0)[:, None].expand(3, 5)
    found = rank_agreement({"gini": up, "road": -up, "deletion": up}, samples=20)
    assert found.sentences() == [
        "gini and road rank the methods differently (τ-b -1.00, 95 % between -1.00 and -1.00).",
        "road and deletion rank the methods differently (τ-b -1.00, 95 % between -1.00 and -1.00).",
    ]
    unsure = torch.tensor([[1.0, -0.2], [-0.2, 1.0]])
    assert RankAgreement(("a", "b"), unsure, unsure - 0.5, unsure + 0.5).sentences() == []
    undefined = torch.tensor([[1.0, math.nan], [math.nan, 1.0]])
    assert RankAgreement(("a", "b"), undefined).sentences() == []


def test_methods_that_are_one_up_to_rounding_are_tied() -> None:
    a = torch.rand(1, 50, dtype=torch.float64)
    three = torch.cat([a, a + 1e-12, a - 1])
    other = torch.tensor([2.0, 2.0, 1.0])[:, None].expand(3, 50)
    assert float(rank_agreement({"a": three, "b": other}, samples=0).tau[0, 1]) == 1.0


def test_what_does_not_fit() -> None:
    with pytest.raises(ArgumentTypeError, match="a mapping from names of metrics"):
        rank_agreement([torch.zeros(2, 2)])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'b' has \(3, 2\), 'a' has \(2, 2\)"):
        rank_agreement({"a": torch.zeros(2, 2), "b": torch.zeros(3, 2)})
    with pytest.raises(InputError, match=r"two methods or more, .* 'a' has \(1, 2\)"):
        rank_agreement({"a": torch.zeros(1, 2)})
    with pytest.raises(InputError, match="lower names 'c', which is none of the metrics: a"):
        rank_agreement({"a": torch.zeros(2, 2)}, lower=["c"])
    with pytest.raises(InputError, match="groups names 'c', which is none of the metrics: a"):
        rank_agreement({"a": torch.zeros(2, 2)}, groups={"a": "x", "c": "x"})
    with pytest.raises(InputError, match="'a' is in no group: say on which set of images"):
        rank_agreement({"a": torch.zeros(2, 2)}, groups={})
    with pytest.raises(InputError, match=r"'c' has \(2, 3\), 'b' has \(2, 2\)"):
        rank_agreement(
            {"a": torch.zeros(2, 4), "b": torch.zeros(2, 2), "c": torch.zeros(2, 3)}, groups={"a": "x", "b": "y", "c": "y"}
        )
    with pytest.raises(InputError, match=r"'b' has \(3, 2\), 'a' has \(2, 4\)"):
        rank_agreement({"a": torch.zeros(2, 4), "b": torch.zeros(3, 2)}, groups={"a": "x", "b": "y"})


def test_the_twin_sees_a_wrong_metric() -> None:
    a, b = [1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]
    assert twin.tau_b(a, b) == pytest.approx(4 / math.sqrt(24)) and abs(twin.tau_b(a, b) - 4 / 6) > 0.1  # τ-a, without ties
    assert twin.means([[1.0, math.nan]], [0, 1], -1) == [-1.0]  # not -0.5, as if the undefined image were 0
