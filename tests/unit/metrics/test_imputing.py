"""Linear imputation: against elimination, in closed form, and where a batch or a solver could leak."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import removal as twin
from tests.unit.metrics.pictures import drawn, encoded
from torchbcos import BcosError
from torchbcos.metrics import impute_linear, removal_curve, removal_order

FEW = settings(max_examples=40, derandomize=True, deadline=None)
SEEDS = st.integers(0, 10_000)
CROSS = torch.tensor([[12.0, 6.0, 12.0], [6.0, 99.0, 6.0], [12.0, 6.0, 12.0]]).view(1, 1, 3, 3)


@FEW
@given(seed=SEEDS, h=st.integers(1, 6), w=st.integers(1, 6), share=st.floats(0.05, 0.95))
def test_imputation_is_that_of_elimination(seed: int, h: int, w: int, share: float) -> None:
    x, removed = drawn(seed, 2, 3, h, w), drawn(seed + 1, 2, h, w) < share
    removed[:, seed % h, seed % w] = False
    found = impute_linear(x, removed)
    for i in range(2):
        for c in range(3):
            expected = twin.imputed(x[i, c].tolist(), removed[i].tolist())
            assert torch.allclose(found[i, c], torch.tensor(expected, dtype=torch.float64), atol=1e-9)


def test_closed_forms() -> None:
    centre, corner = torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    centre[1, 1], corner[0, 0] = True, True
    assert float(impute_linear(CROSS, centre)[0, 0, 1, 1]) == pytest.approx(8.0, abs=1e-6)
    inner = CROSS.clone()
    inner[0, 0, 1, 1], inner[0, 0, 0, 0] = 12.0, -5.0  # neighbours 6, 6 and the diagonal 12
    assert float(impute_linear(inner, corner)[0, 0, 0, 0]) == pytest.approx(7.2, abs=1e-6)


def test_wrong_weights_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    centre, corner = torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    centre[1, 1], corner[0, 0] = True, True
    monkeypatch.setattr(  # all neighbours count the same
        "torchbcos.metrics.imputing._around", lambda u: (9 * F.avg_pool2d(F.pad(u, (1, 1, 1, 1)), 3, 1) - u) / 8
    )
    assert float(impute_linear(CROSS, centre)[0, 0, 1, 1]) == pytest.approx(9.0)
    monkeypatch.undo()
    assert float(impute_linear(CROSS, corner)[0, 0, 0, 0]) == pytest.approx(24.6)
    monkeypatch.setattr("torchbcos.metrics.imputing._weights", lambda like: torch.ones_like(like[:1, :1]))  # no border
    assert float(impute_linear(CROSS, corner)[0, 0, 0, 0]) != pytest.approx(24.6)


@FEW
@given(seed=SEEDS, level=st.sampled_from([0.0, 0.1, 0.7, 1.0, -3.3, 1e6]), h=st.integers(1, 20), w=st.integers(2, 20))
def test_a_constant_picture_stays_constant(seed: int, level: float, h: int, w: int) -> None:
    x, removed = torch.full((1, 3, h, w), level), torch.ones(1, h, w, dtype=torch.bool)
    removed[0, seed % h, seed % w] = False
    assert torch.equal(impute_linear(x, removed), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_left_keeps_its_bits(dtype: torch.dtype) -> None:
    x, removed = encoded(0, 3, 3, 9, 9).to(dtype), drawn(1, 3, 9, 9) < 0.6
    held = x.clone()
    found = impute_linear(x, removed, noise=0.2)
    kept = ~removed.unsqueeze(1).expand_as(x)
    assert found.dtype == dtype and torch.equal(found[kept], held[kept]) and torch.equal(x, held)
    nothing = impute_linear(x, torch.zeros(9, 9, dtype=torch.bool), noise=0.2)
    assert torch.equal(nothing, x) and nothing.data_ptr() != x.data_ptr()


def test_result_does_not_depend_on_the_batch() -> None:
    """Easy and hard masks together: a system that is solved waits for the others without moving."""
    x, removed = encoded(2, 4, 3, 33, 47).float(), drawn(3, 4, 33, 47) < torch.tensor([0.02, 0.5, 0.97, 0.3]).view(4, 1, 1)
    removed[3, 4:30, 4:40] = True
    for noise in (0.0, 0.05):
        whole = impute_linear(x, removed, noise=noise)
        alone = torch.cat([impute_linear(x[i : i + 1], removed[i : i + 1], noise=noise) for i in range(4)])
        assert torch.allclose(whole, alone, atol=1e-7)
        assert torch.allclose(whole[[2, 0]], impute_linear(x[[2, 0]], removed[[2, 0]], noise=noise), atol=1e-7)
    mixed = torch.cat([x, 2 * x])  # encoded and other pictures in one batch
    both = impute_linear(mixed, removed.repeat(2, 1, 1))
    assert torch.allclose(both[:4], impute_linear(x, removed), atol=1e-7)
    assert torch.allclose(both[4:], 2 * both[:4], atol=1e-6)


@pytest.mark.parametrize(
    "hole", ["a corner is left", "every second pixel", "a disc", "a frame is left", "a line is left", "a strip"]
)
def test_large_holes_are_filled_to_the_last_digit(hole: str) -> None:
    h, w = (1, 700) if hole == "a strip" else (60, 75)
    y, z = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    removed = {
        "a corner is left": (y > 1) | (z > 1),
        "every second pixel": (y + z) % 2 == 0,
        "a disc": (y - 30) ** 2 + (z - 30) ** 2 < 800,
        "a frame is left": (y > 0) & (z > 0) & (y < h - 1) & (z < w - 1),
        "a line is left": y != 17,
        "a strip": (z > 0) & (z < w - 1),
    }[hole]
    x = drawn(5, 1, 3, h, w) * 255
    found = impute_linear(x, removed)
    # each removed pixel is the mean of its neighbours; so no value leaves the range of those that are left
    weights = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=torch.float64).expand(3, 1, 3, 3) / 12
    around = F.conv2d(found, weights, padding=1, groups=3)
    exist = F.conv2d(torch.ones_like(found), weights, padding=1, groups=3)
    assert float((around / exist - found)[..., removed].abs().max()) < 1e-7
    left = x[..., ~removed]
    assert bool((found.amax((2, 3)) <= left.amax(-1) + 1e-6).all()) and bool((found.amin((2, 3)) >= left.amin(-1) - 1e-6).all())


def test_colours_stay_colours_and_noise_is_of_colours() -> None:
    x, removed = encoded(0, 2, 3, 12, 12).float(), drawn(1, 2, 12, 12) < 0.7
    plain, noisy = impute_linear(x, removed), impute_linear(x, removed, noise=0.3)
    for found in (plain, noisy):
        assert float((found[:, :3] + found[:, 3:] - 1).abs().max()) <= 1e-6
        assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.allclose(plain[:, :3], impute_linear(x[:, :3], removed), atol=1e-7)
    assert 0.1 < float((noisy - plain)[removed.unsqueeze(1).expand_as(x)].std()) < 0.3
    normalised = impute_linear(5 * x[:, :3] - 2, removed, noise=0.3)
    difference = (normalised - impute_linear(5 * x[:, :3] - 2, removed))[removed.unsqueeze(1).expand(-1, 3, -1, -1)]
    assert float(difference.std()) == pytest.approx(0.3, rel=0.1) and float(normalised.max()) > 1


def test_noise_is_that_of_the_generator() -> None:
    x, removed = drawn(0, 1, 3, 5, 5), drawn(1, 5, 5) < 0.5
    state = torch.get_rng_state()
    first = impute_linear(x, removed, noise=0.1)
    assert torch.equal(first, impute_linear(x, removed, noise=0.1))
    assert torch.equal(first, impute_linear(x, removed, noise=0.1, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(first, impute_linear(x, removed, noise=0.1, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)


def test_curves_impute() -> None:
    x, maps, seen = encoded(0, 2, 3, 8, 8).float(), drawn(1, 2, 8, 8), []

    def predict(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return batch.flatten(1).sum(1)

    order = removal_order(maps)
    removal_curve(predict, x, order, replace="linear", fractions=[0, 0.5], batch_size=2)
    removed = torch.zeros(2, 64, dtype=torch.bool).scatter_(1, order[:, :32], True).view(2, 8, 8)
    assert torch.equal(seen[0], x) and torch.allclose(seen[1], impute_linear(x, removed), atol=1e-7)
    removal_curve(predict, x, order, replace="linear", fractions=[0.5, 1], batch_size=2, keep=True)
    assert torch.equal(seen[3], x) and torch.allclose(seen[2], impute_linear(x, ~removed), atol=1e-7)
    seen.clear()
    for keep in (False, True):
        with pytest.raises(BcosError, match="Linear imputation needs a pixel that is left"):
            removal_curve(predict, x, order, replace="linear", keep=keep)
    assert seen == []


X = drawn(0, 2, 3, 4, 4)
NONE = torch.zeros(2, 4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"removed": ~NONE}, "Every pixel of picture 0 is removed: nothing is left to impute it from"),
        ({"removed": torch.stack([NONE[0], ~NONE[0]])}, "Every pixel of picture 1 is removed"),
        ({"removed": NONE.float()}, "of bool: True where a pixel is removed"),
        ({"removed": NONE[:, :3]}, r"A mask of shape \(2, 3, 4\) does not fit pictures of shape \(2, 3, 4, 4\)"),
        ({"removed": NONE.unsqueeze(1)}, "does not fit pictures"),
        ({"x": X[0]}, "two space axes"),
        ({"noise": -0.1}, "noise must be a standard deviation of 0 or more"),
        ({"noise": float("nan")}, "noise must be a standard deviation"),
        ({"noise": "some"}, "noise must be a number"),
        ({"generator": 1}, "generator must be a torch.Generator"),
        ({"x": X / 0}, "Picture 0 has numbers that are not finite"),
    ],
)
def test_what_cannot_be_imputed(change: dict[str, Any], message: str) -> None:
    given = {"x": X, "removed": NONE, **change}
    with pytest.raises(BcosError, match=message):
        impute_linear(given.pop("x"), given.pop("removed"), **given)
