"""Temperature and reliability against their float64 twins, closed forms and laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import calibration as twin
from torchbcos._core.errors import InputError
from torchbcos._core.probability import TEMPERATURES, probabilities
from torchbcos.metrics import calibration, fit_temperature, reliability, score

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from(["sigmoid", "softmax"])


def drawn(seed: int, n: int, classes: int, *, true: float = 1.0, probability: str = "softmax") -> tuple[Tensor, Tensor]:
    """Logits, and classes (softmax) or labels (sigmoid) drawn from the probabilities that a temperature gives them."""
    random = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, classes, generator=random, dtype=torch.float64)
    if probability == "softmax":
        return z, torch.multinomial((z / true).softmax(1), 1, generator=random)[:, 0]
    return z, torch.bernoulli((z / true).sigmoid(), generator=random)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 12), classes=st.integers(2, 4), kind=KINDS, labels=st.booleans())
def test_the_temperature_is_that_of_the_twin(seed: int, n: int, classes: int, kind: str, labels: bool) -> None:
    z, y = drawn(seed, n, classes)
    if labels:
        y = torch.rand(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        y = torch.where(y < 0.2, torch.nan, torch.where(y > 0.5, y.round(), y))  # unknown, soft, and certain ones
        y[0, 0] = 1.0
    found = fit_temperature(z, y, probability=kind)
    expected = twin.best_temperature(z.tolist(), y.tolist(), "sigmoid" if labels else kind)
    assert found == pytest.approx(expected, rel=1e-5)
    at = [twin.negative_log_likelihood(z.tolist(), y.tolist(), kind, found * by) for by in (0.99, 1.0, 1.01)]
    if TEMPERATURES[0] < found < TEMPERATURES[1]:
        assert at[1] <= min(at[0], at[2]) + 1e-12


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, factor=st.floats(0.25, 4), kind=KINDS)
def test_logits_that_are_multiplied_multiply_the_temperature(seed: int, factor: float, kind: str) -> None:
    z, y = drawn(seed, 60, 3, true=1.7)
    found = fit_temperature(z, y, probability=kind)
    assert fit_temperature(factor * z, y, probability=kind) == pytest.approx(factor * found, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, kind=KINDS)
def test_what_a_temperature_leaves_as_it_is(seed: int, kind: str) -> None:
    z, y = drawn(seed, 50, 6, true=2.0)
    given_z, given_y, state = z.clone(), y.clone(), torch.random.get_rng_state()
    found = fit_temperature(z, y, probability=kind)
    before, after = (probabilities(z, kind, t) for t in (None, found))
    assert torch.equal(before.argsort(dim=1, stable=True), after.argsort(dim=1, stable=True))
    assert torch.equal((z / found).argmax(1), z.argmax(1))
    if kind == "sigmoid":
        assert torch.equal(before > 0.5, after > 0.5)
    assert torch.equal(z, given_z) and torch.equal(y, given_y) and torch.equal(torch.random.get_rng_state(), state)
    first, second = score(z, y, probability=kind), score(z / found, y, probability=kind)
    assert (first["top1"], first["top5"]) == (second["top1"], second["top5"])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_the_data_were_drawn_with_comes_back(kind: str, true: float) -> None:
    z, y = drawn(0, 40_000, 5, true=true, probability=kind)
    found = fit_temperature(z, y, probability=kind)
    assert found == pytest.approx(true, rel=0.03)
    assert score(z / found, y, probability=kind)["ece"] < 1.0
    if true == 3.0:
        assert score(z, y, probability=kind)["ece"] > 5.0


@pytest.mark.parametrize(("n", "right"), [(4, 3), (10, 9), (1000, 501)])
def test_one_logit_alone_has_a_closed_form(n: int, right: int) -> None:
    """Of n answers of logit z, `right` come true: T = z / log(right / wrong), which is what makes them as sure as right."""
    y = torch.tensor([0] * right + [1] * (n - right))
    for kind, z in (("softmax", torch.tensor([[1.5, 0.0]])), ("sigmoid", torch.tensor([[1.5, -1.5]]))):
        found = fit_temperature(z.repeat(n, 1), y, probability=kind)
        assert found == pytest.approx(min(1.5 / math.log(right / (n - right)), 100.0), rel=1e-9)


def test_the_ends_of_the_range() -> None:
    low, high = TEMPERATURES
    z, y = torch.tensor([[3.0, -1.0], [-2.0, 1.0]]), torch.tensor([0, 1])
    for kind in ("softmax", "sigmoid"):
        assert fit_temperature(z, y, probability=kind) == low  # all are right
        assert fit_temperature(1e6 * z, y, probability=kind) == low  # and no slope is left of it in float64
        assert fit_temperature(z, 1 - y, probability=kind) == high  # none is
        assert fit_temperature(torch.zeros(3, 2), torch.tensor([0, 1, 1]), probability=kind) == 1.0
    assert fit_temperature(torch.ones(3, 2), torch.tensor([0, 1, 1]), probability="softmax") == 1.0


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_logits_of_any_size(kind: str, size: float) -> None:
    """Squares of the largest float32 overflow float32, and those of the smallest vanish."""
    z, y = drawn(3, 30, 3, true=1.5)
    expected = TEMPERATURES[0] if size < 1 else TEMPERATURES[1]
    assert fit_temperature((size * z).float(), y, probability=kind) == expected
    assert fit_temperature(z.half(), y, probability=kind) == fit_temperature(z.half().double(), y, probability=kind)
    assert fit_temperature(1e300 * z, y, probability=kind) == TEMPERATURES[1]


def test_pieces_of_the_work_are_one_work(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = drawn(5, 101, 4)
    for kind in ("softmax", "sigmoid"):
        whole = fit_temperature(z, y, probability=kind)
        with monkeypatch.context() as patch:
            patch.setattr(calibration, "_CHUNK", 30)
            assert fit_temperature(z, y, probability=kind) == pytest.approx(whole, rel=1e-12)


def test_gradients_and_devices_of_the_caller_do_not_matter() -> None:
    z, y = drawn(6, 20, 3)
    assert fit_temperature(z.requires_grad_(), y.int(), probability="softmax") == fit_temperature(
        z.detach(), y, probability="softmax"
    )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 40), kind=KINDS, bins=st.integers(1, 20), temperature=st.sampled_from([None, 0.5, 2.0]))
def test_reliability_is_that_of_the_twin(seed: int, n: int, kind: str, bins: int, temperature: float | None) -> None:
    z, y = drawn(seed, n, 3)
    found = reliability(z, y, probability=kind, temperature=temperature, bins=bins)
    confidence, best = probabilities(z, kind, temperature).max(1)
    expected = twin.reliability(confidence.tolist(), (best == y).tolist(), bins)
    assert len(found) == bins and sum(one.count for one in found) == n
    for one, (sure, right, count) in zip(found, expected, strict=True):
        assert one.count == count
        assert (one.confidence, one.accuracy) == pytest.approx((sure, right), nan_ok=True)
        assert not count or one.low - 1e-12 <= one.confidence <= one.high + 1e-12


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, kind=KINDS, temperature=st.sampled_from([None, 0.3, 4.0]), labels=st.booleans())
def test_the_error_is_the_mean_of_the_gaps(seed: int, kind: str, temperature: float | None, labels: bool) -> None:
    z, y = drawn(seed, 50, 4)
    if labels:
        y = torch.randint(2, (50, 4), generator=torch.Generator().manual_seed(seed)).double()
        y[3], y[4, 1] = torch.nan, 0.7
    bins = reliability(z, y, probability=kind, temperature=temperature)
    count = sum(one.count for one in bins)
    assert count == (50 * 4 - 5 if labels else 50)
    gaps = sum(abs(one.confidence - one.accuracy) * one.count for one in bins if one.count)
    ece = score(z if temperature is None else z / temperature, y, probability=kind)["ece"]
    assert ece == pytest.approx(100 * gaps / count, rel=1e-9)


def test_edges_belong_to_the_bin_above_and_one_to_the_last() -> None:
    found = reliability(torch.tensor([[0.0], [99.0]]), torch.tensor([[1.0], [1.0]]), bins=2)
    assert [(one.low, one.high, one.count) for one in found] == [(0.0, 0.5, 0), (0.5, 1.0, 2)]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_none_have_neither(broken: float) -> None:
    z, y = drawn(0, 8, 3)
    z[2, 1] = broken
    assert math.isnan(fit_temperature(z, y)) and all(one.count == 0 for one in reliability(z, y))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: fit_temperature(z, y[:3]), "4 predictions for 3 examples"),
        (lambda z, y: fit_temperature(z, y + 9), "A target is"),
        (lambda z, y: fit_temperature(z, y, probability="logit"), "probability is 'sigmoid' or 'softmax'"),
        (lambda z, y: fit_temperature(z, torch.full_like(z, torch.nan)), "No label of these examples is known"),
        (lambda z, y: reliability(z, y, bins=0), "bins must be a positive integer, not 0"),
        (lambda z, y: reliability(z, y, bins=True), "bins must be a positive integer"),
        (lambda z, y: reliability(z, y, temperature=0.0), "temperature must be a positive number, not 0.0"),
        (lambda z, y: reliability(z, y, temperature=math.nan), "temperature must be a positive number"),
        (lambda z, y: reliability(z, y, probability="logit"), "probability is 'sigmoid' or 'softmax'"),
        (lambda z, y: reliability(z[:0], y[:0]), "nothing to score"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(*drawn(0, 4, 3))


def test_the_twin_sees_a_wrong_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the class that is right, the slope is another."""
    usual = calibration._slope_of_softmax
    monkeypatch.setattr(calibration, "_slope_of_softmax", lambda z, y, beta: usual(z, y, beta) + torch.tensor([0.05, 0.0]))
    z, y = drawn(1, 12, 3, true=2.0)
    found = fit_temperature(z, y, probability="softmax")
    assert found != pytest.approx(twin.best_temperature(z.tolist(), y.tolist(), "softmax"), rel=1e-3)
