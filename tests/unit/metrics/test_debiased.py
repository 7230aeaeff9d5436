"""ROAD: its curves are those of imputed pictures, and accuracy is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import removal as twin
from tests.unit.metrics.pictures import curved, curved_twin, drawn, encoded
from torchbcos import BcosError
from torchbcos.metrics import road, road_curves


@settings(max_examples=15, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10_000), h=st.integers(2, 4), w=st.integers(2, 4), batch_size=st.integers(1, 7))
def test_road_is_that_of_the_slow_twin(seed: int, h: int, w: int, batch_size: int) -> None:
    x, maps = drawn(seed, 2, 2, h, w), drawn(seed + 1, 2, h, w)
    fractions = (0.25, 0.5, 0.7)
    found = road(curved, x, maps, fractions=fractions, noise=0.0, batch_size=batch_size)
    counts = [int(f * h * w + 0.5) for f in fractions]
    for i in range(2):
        orders = [twin.order(maps[i].flatten().tolist(), most, range(h * w)) for most in (True, False)]
        assert float(found[i]) == pytest.approx(twin.road(curved_twin, x[i].tolist(), orders, counts), abs=1e-7)
    most, least = road_curves(curved, x, maps, fractions=fractions, noise=0.0)
    assert torch.allclose((least.values - most.values).mean(1) / 2, found, atol=1e-12)
    assert most.fractions.tolist() == [c / (h * w) for c in counts]


def classes(x: Tensor) -> Tensor:
    """Class 1 where the picture has a bright pixel."""
    return torch.stack([torch.full((len(x),), 0.5), x[:, 0].flatten(1).amax(1).float()], 1)


def bright() -> Tensor:
    """Two encoded pictures of one bright spot each on dark grey."""
    x = torch.full((2, 1, 10, 10), 0.1)
    x[0, 0, 2, 3] = x[1, 0, 7, 7] = 1.0
    return torch.cat([x, 1 - x], 1)


def test_accuracy_falls_with_the_pixel_that_decides() -> None:
    x = bright()
    most, least = road_curves(classes, x, x[:, 0], measure="accuracy", noise=0.01, targets=torch.tensor([1, 1]))
    assert most.values.tolist() == [[0.0] * 9] * 2 and least.values.tolist() == [[1.0] * 9] * 2
    assert most.fractions.tolist() == pytest.approx([0.1 * i for i in range(1, 10)])
    other = road_curves(classes, x, x[:, 0], measure="accuracy", targets=torch.tensor([0, 1]))
    assert other[0].values.mean(1).tolist() == [1, 0]
    assert road(classes, x, x[:, 0], measure="accuracy", targets=torch.tensor([1, 0])).tolist() == [0.5, -0.5]
    broken = road(lambda b: classes(b) * float("nan"), x, x[:, 0], measure="accuracy", targets=torch.tensor([1, 1]))
    assert broken.isnan().all()


def test_a_constant_map_has_no_gap_at_all() -> None:
    x, maps = encoded(0, 2, 3, 8, 8), torch.ones(2, 8, 8)
    assert road(curved, x, maps, noise=0.1).tolist() == [0, 0]
    most, least = road_curves(curved, x, maps, noise=0.1, generator=torch.Generator().manual_seed(5))
    assert torch.equal(most.values, least.values)


def test_noise_and_ties_do_not_depend_on_the_batch() -> None:
    x, maps = encoded(0, 3, 3, 8, 8), drawn(1, 3, 8, 8).mul(3).round()
    whole = road(curved, x, maps, noise=0.1, batch_size=7)
    alone = torch.cat([road(curved, x[i : i + 1], maps[i : i + 1], noise=0.1) for i in range(3)])
    assert torch.allclose(whole, alone, atol=1e-9)
    assert not torch.allclose(whole, road(curved, x, maps, noise=0.1, generator=torch.Generator().manual_seed(3)), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": "accuracy"}, r"Accuracy needs targets=\(N,\)"),
        ({"measure": "loss"}, "measure must be 'score' or 'accuracy', not 'loss'"),
        ({"measure": "accuracy", "targets": torch.zeros(3).long()}, r"predict gave \(16,\) .* all classes"),
        ({"fractions": [0.5, 1.0]}, "Linear imputation needs a pixel that is left"),
        ({"maps": drawn(0, 3, 4, 4)}, "do not fit pictures"),
        ({"noise": -1}, "noise must be a standard deviation"),
    ],
)
def test_what_cannot_be_scored(change: dict[str, Any], message: str) -> None:
    given = {"maps": drawn(0, 3, 8, 8), **change}
    with pytest.raises(BcosError, match=message):
        road(curved, encoded(0, 3, 3, 8, 8), given.pop("maps"), **given)
