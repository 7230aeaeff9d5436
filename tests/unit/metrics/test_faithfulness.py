"""Sensitivity-n and infidelity: against slow twins, in closed form, and beside Captum and Quantus."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.reference import removal as twin
from tests.unit.metrics.pictures import curved, curved_twin, drawn, encoded, pixels
from torchbcos import BcosError
from torchbcos.metrics import infidelity, sensitivity_n, single_deletion

FEW = settings(max_examples=30, derandomize=True, deadline=None)
SEEDS = st.integers(0, 10_000)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_of(x: Tensor) -> Tensor:
    return torch.sin(torch.arange(x[0].numel(), dtype=torch.float64) * 0.7 + 0.2).to(x.dtype).view(x.shape[1:])


def linear(x: Tensor) -> Tensor:
    return (x * weights_of(x)).flatten(1).sum(1)


# -- sensitivity-n ---------------------------------------------------------------------------------------------------


@FEW
@given(seed=SEEDS, h=st.integers(2, 4), w=st.integers(2, 4), n=st.integers(1, 3), subsets=st.integers(2, 8),
       batch_size=st.integers(1, 9))  # fmt: skip
def test_sensitivity_n_is_that_of_the_slow_twin(seed: int, h: int, w: int, n: int, subsets: int, batch_size: int) -> None:
    x, base, maps = encoded(seed, 2, 1, h, w), drawn(seed + 1, 2, 2, h, w), drawn(seed + 2, 2, h, w) - 0.5
    found = sensitivity_n(curved, x, maps, n=n, subsets=subsets, replace=base, generator=seeded(seed), batch_size=batch_size)
    generator = seeded(seed)
    orders = [torch.randperm(h * w, generator=generator).tolist() for _ in range(subsets)]
    places = [[p for p in range(h * w) if order[p] < n] for order in orders]
    assert all(len(s) == n for s in places)
    for i in range(2):
        expected = twin.sensitivity_n(curved_twin, pixels(x[i]), pixels(base[i]), maps[i].flatten().tolist(), places)
        if len({tuple(s) for s in places}) > 1:
            assert float(found[i]) == pytest.approx(expected, abs=1e-8)
        else:
            assert math.isnan(float(found[i]))


def test_closed_form_of_a_linear_model() -> None:
    x = drawn(0, 2, 3, 5, 5)
    maps = (x * weights_of(x)).sum(1)
    found = sensitivity_n(linear, x, maps, n=range(1, 26), replace=0.0, subsets=40)
    assert found.shape == (2, 25) and found[:, -1].isnan().all()
    assert float((found[:, :-1] - 1).abs().max()) <= 1e-6
    assert float((sensitivity_n(linear, x, -3 * maps, n=7, replace=0.0) + 1).abs().max()) <= 1e-6
    single = sensitivity_n(linear, x.float(), maps, n=7, replace=0.0)
    assert float((single - 1).abs().max()) <= 1e-6
    # what a cumulative difference, or a correlation across images, would say
    assert float(sensitivity_n(linear, x, maps.flip(0), n=7, replace=0.0).max()) < 0.9


def test_what_has_no_correlation() -> None:
    x, maps = drawn(1, 3, 3, 5, 5), drawn(2, 3, 5, 5)
    maps[1] = 0.1
    assert sensitivity_n(linear, x, maps, n=4).isnan().tolist() == [False, True, False]
    generator = seeded(0)
    still = sensitivity_n(lambda b: 3 + 1e-7 * torch.rand(len(b), generator=generator), x, maps, n=4)
    assert still.isnan().all()


def test_one_n_is_a_column_of_several_and_nobody_else_counts() -> None:
    x, maps = encoded(1, 3, 3, 5, 5), drawn(2, 3, 5, 5)
    several = sensitivity_n(curved, x, maps, n=(2, 9, 20), subsets=12)
    for column, n in enumerate((2, 9, 20)):
        assert torch.allclose(several[:, column], sensitivity_n(curved, x, maps, n=n, subsets=12, batch_size=5), atol=1e-9)
    alone = torch.cat([sensitivity_n(curved, x[i : i + 1], maps[i : i + 1], n=9, subsets=12) for i in range(3)])
    assert torch.allclose(several[:, 1], alone, atol=1e-9)
    assert torch.equal(several, sensitivity_n(curved, x, maps, n=np.array([2, 9, 20]), subsets=12))
    assert not torch.allclose(several[:, 1], sensitivity_n(curved, x, maps, n=9, subsets=12, generator=seeded(1)))


def test_removed_pixels_stay_colours() -> None:
    x, seen = encoded(1, 2, 3, 8, 8).float(), []

    def predict(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch.flatten(1).sum(1)

    for replace in ("grey", "mean", "blur", "black", "linear"):
        sensitivity_n(predict, x, drawn(0, 2, 8, 8), n=20, subsets=3, replace=replace)
    infidelity(predict, x, torch.ones_like(x), perturb=0.3, samples=3)
    assert max(float((b[:, :3] + b[:, 3:] - 1).abs().max()) for b in seen) <= 1e-6


# -- infidelity ------------------------------------------------------------------------------------------------------


@FEW
@given(seed=SEEDS, h=st.integers(1, 3), w=st.integers(1, 3), samples=st.integers(1, 5), batch_size=st.integers(1, 7))
def test_infidelity_is_that_of_the_slow_twin(seed: int, h: int, w: int, samples: int, batch_size: int) -> None:
    x, weights = drawn(seed, 3, 2, h, w), drawn(seed + 1, 3, 2, h, w) - 0.5
    changes = drawn(seed + 2, samples, 3, 2, h, w) - 0.5
    each = iter(changes)
    found = infidelity(curved, x, weights, perturb=lambda x: next(each), samples=samples, batch_size=batch_size)
    for i in range(3):
        expected = twin.infidelity(curved_twin, pixels(x[i]), pixels(weights[i]), [pixels(c[i]) for c in changes])
        assert float(found[i]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_gradient_of_a_linear_model_is_faithful_and_contributions_are_not() -> None:
    x = drawn(0, 3, 3, 6, 6)
    weights = weights_of(x).expand_as(x)
    assert float(infidelity(linear, x, weights).max()) <= 1e-12
    assert float(infidelity(linear, x, x * weights).min()) > 1e-3
    assert float(infidelity(linear, x, -weights).min()) > 1e-3  # a wrong sign
    assert float(infidelity(linear, x, 5 * weights, scaled=True).max()) <= 1e-12
    assert float(infidelity(linear, x, 5 * weights).min()) > 1e-3
    assert infidelity(linear, x, 0 * weights, scaled=True).isfinite().all()
    six = encoded(0, 2, 3, 6, 6)
    assert float(infidelity(linear, six, weights_of(six).expand_as(six)).max()) <= 1e-12


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_that_of_captum(scaled: bool) -> None:
    captum = pytest.importorskip("captum.metrics")
    x, weights = drawn(0, 3, 2, 4, 4), drawn(1, 3, 2, 4, 4) - 0.5
    changes = [drawn(s, 3, 2, 4, 4) - 0.5 for s in range(6)]
    theirs, ours = iter(changes), iter(changes)

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        change = next(theirs)
        return change, x - change

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = captum.infidelity(
            lambda x: curved(x), perturb, x, weights, n_perturb_samples=6, max_examples_per_batch=3, normalize=scaled
        )
    found = infidelity(curved, x, weights, perturb=lambda x, generator: next(ours), samples=6, scaled=scaled)
    assert torch.allclose(found, wanted, rtol=1e-6)
    theirs = iter(changes)
    assert torch.allclose(infidelity(curved, x, weights, perturb=perturb, samples=6, scaled=scaled), found, rtol=1e-9)


@pytest.mark.parity
def test_infidelity_is_that_of_quantus() -> None:
    """Where it is right: the gradient of a linear model, sides that patches divide."""
    quantus = pytest.importorskip("quantus")

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([linear(x), -linear(x)], 1)

    x = drawn(0, 2, 3, 8, 8).float()
    weights = weights_of(x).expand_as(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=3, disable_warnings=True)
        given = {"x_batch": x.numpy(), "y_batch": np.zeros(2, int), "a_batch": weights.numpy()}
        theirs = metric(model=Linear().eval(), device="cpu", softmax=False, **given)
    assert max(theirs) < 1e-6 and float(infidelity(linear, x, weights).max()) < 1e-6


def test_noise_does_not_depend_on_the_batch() -> None:
    x, weights = encoded(0, 3, 3, 5, 5), drawn(1, 3, 6, 5, 5)
    state = torch.get_rng_state()
    whole = infidelity(curved, x, weights)
    alone = torch.cat([infidelity(curved, x[i : i + 1], weights[i : i + 1], batch_size=3) for i in range(3)])
    assert torch.allclose(whole, alone, rtol=1e-9) and torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(whole, infidelity(curved, x, weights, generator=seeded(1)))

    def noise(x: Tensor, scale: float = 0.1, *, generator: torch.Generator | None = None) -> Tensor:
        assert isinstance(scale, float)
        return scale * torch.randn(1, *x.shape[1:], generator=generator)

    assert not torch.allclose(infidelity(curved, x, weights, perturb=noise), whole)
    assert infidelity(curved, x, weights, perturb=lambda x, scale=0.1: scale * x).shape == (3,)


def test_functions_that_work_in_place_change_nobodys_pictures() -> None:
    x, maps = drawn(0, 2, 3, 5, 5), drawn(1, 2, 5, 5)
    held, weights = x.clone(), weights_of(x).expand_as(x)

    def predict(batch: Tensor) -> Tensor:
        found = linear(batch)
        batch.zero_()
        return found

    assert float(infidelity(predict, x, weights, perturb=lambda x: x.mul_(0.5), samples=2).max()) <= 1e-12
    assert torch.equal(sensitivity_n(predict, x, maps, n=4, subsets=6), sensitivity_n(linear, x, maps, n=4, subsets=6))
    assert torch.equal(x, held)


X = drawn(0, 2, 3, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 17}, "n must be from 1 to 16, the pixels of a picture, not 17"),
        ({"n": 0}, "n, the pixels of a subset, must be 1 or more, not 0"),
        ({"n": []}, "n must be from 1 to 16"),
        ({"n": 0.5}, "must be a whole number, not float"),
        ({"n": [2, 99]}, "not 99"),
        ({"subsets": 1}, "subsets must be 2 or more"),
        ({"maps": X}, "sum their channels"),
        ({"predict": lambda x: x}, "choose the class"),
        ({"replace": "linear", "n": 16}, "Every pixel of a picture is removed"),
    ],
)
def test_what_has_no_sensitivity(change: dict[str, Any], message: str) -> None:
    given = {"predict": linear, "x": X, "maps": X[:, 0], "n": 3, **change}
    with pytest.raises(BcosError, match=message):
        sensitivity_n(given.pop("predict"), given.pop("x"), given.pop("maps"), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": X[:, 0]}, "one weight for every number of x"),
        ({"weights": X / 0}, "weights have numbers that are not finite"),
        ({"weights": 1}, "weights must be a tensor"),
        ({"perturb": "gaussian"}, "perturb must be a standard deviation or a function, not str"),
        ({"perturb": -1}, "noise must be a standard deviation of 0 or more"),
        ({"perturb": lambda x: x[:, :, :2]}, r"perturb gave \(2, 3, 2, 4\), which does not fit"),
        ({"perturb": lambda x, g: x / 0}, "perturb gave numbers that are not finite"),
        ({"perturb": lambda x: 1}, "perturb gave a int"),
        ({"samples": 0}, "samples must be 1 or more"),
        ({"predict": lambda x: x}, "choose the class"),
    ],
)
def test_what_has_no_infidelity(change: dict[str, Any], message: str) -> None:
    given = {"predict": linear, "x": X, "weights": X, **change}
    with pytest.raises(BcosError, match=message):
        infidelity(given.pop("predict"), given.pop("x"), given.pop("weights"), **given)


@pytest.mark.parametrize("scale", [1e305, 1e-305])
def test_no_scale_of_a_map_is_too_large_for_a_correlation(scale: float) -> None:
    x, maps = encoded(3, 2, 3, 8, 8), drawn(4, 2, 8, 8) - 0.5
    huge = maps * scale
    expected = sensitivity_n(curved, x, maps, n=[2, 40], subsets=8)
    torch.testing.assert_close(sensitivity_n(curved, x, huge, n=[2, 40], subsets=8), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(single_deletion(curved, x, huge * 100, cells=2), single_deletion(curved, x, maps, cells=2))
