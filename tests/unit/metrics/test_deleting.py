"""Deletion and insertion: against the slow twin, and RISE's own numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.reference import removal as twin
from tests.unit.metrics.pictures import curved, curved_twin, drawn, encoded, pixels
from torchbcos import BcosError
from torchbcos.metrics import deletion, insertion, pixel_steps, rise_blur

FEW = settings(max_examples=25, derandomize=True, deadline=None)
FOUR = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)


@FEW
@given(seed=st.integers(0, 10_000), n=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(2, 4), steps=st.integers(1, 8))
def test_both_are_those_of_the_slow_twin(seed: int, n: int, h: int, w: int, steps: int) -> None:
    x, base, maps = encoded(seed, n, 1, h, w), drawn(seed + 1, n, 2, h, w), drawn(seed + 2, n, h, w) - 0.5
    found = {f: f(curved, x, maps, replace=base, fractions=steps) for f in (deletion, insertion)}
    counts = [int(i * h * w / steps + 0.5) for i in range(steps + 1)]
    for i in range(n):
        goes = twin.order(maps[i].flatten().tolist(), True, range(h * w))
        for f, slow in ((deletion, twin.deletion), (insertion, twin.insertion)):
            expected = slow(curved_twin, pixels(x[i]), pixels(base[i]), goes, counts)
            assert float(found[f][i]) == pytest.approx(expected, abs=1e-9)


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def test_closed_forms_and_what_breaks_them() -> None:
    maps = FOUR[:, 0]
    kind: dict[str, Any] = {"replace": 0.0, "fractions": 4}
    assert [float(f(total, FOUR, maps, **kind)) for f in (deletion, insertion)] == [3.75, 6.25]
    assert [float(f(total, FOUR, maps, normalised=True, **kind)) for f in (deletion, insertion)] == [0.375, 0.625]
    assert [float(f(total, FOUR, -maps, **kind)) for f in (deletion, insertion)] == [6.25, 3.75]  # a wrong sign
    assert float(deletion(total, FOUR, torch.ones(1, 2, 2), ties="reversed", **kind)) == 6.25  # RISE's tie rule
    assert float(deletion(total, FOUR, -maps, sign="absolute", **kind)) == 3.75


def test_steps_of_rise() -> None:
    """224 pixels a step, both ends, AUC = (sum - half the first - half the last)/n: `evaluation.py` of RISE."""
    x, maps = drawn(0, 1, 3, 32, 28), drawn(1, 1, 32, 28)
    steps = pixel_steps(32 * 28)
    assert (steps * 896).tolist() == [0, 224, 448, 672, 896]
    order = maps.flatten().argsort(descending=True)
    scores = []
    for i in range(5):
        start = x.flatten(2).clone()
        start[:, :, order[: 224 * i]] = 0
        scores.append(float(curved(start.view_as(x))))
    auc = (sum(scores) - scores[0] / 2 - scores[-1] / 2) / 4
    assert float(deletion(curved, x, maps, replace=0.0, fractions=steps)) == pytest.approx(auc, abs=1e-9)
    assert pixel_steps(10, 4).tolist() == [0, 0.4, 0.8, 1] and pixel_steps(8, 4).tolist() == [0, 0.5, 1]


def test_blur_of_rise() -> None:
    """Its kernel is SciPy's blur of one bright pixel in 11 x 11, tails mirrored."""
    dot = torch.zeros(1, 1, 23, 25, dtype=torch.float64)
    dot[0, 0, 11, 12] = 1
    spot = torch.zeros(11, 11, dtype=torch.float64)
    spot[5, 5] = 1
    expected = torch.from_numpy(gaussian_filter(spot.numpy(), 5))
    assert torch.allclose(rise_blur(dot)[0, 0, 6:17, 7:18], expected, atol=1e-12)
    assert not torch.allclose(rise_blur(dot)[0, 0, 6:17, 7:18], torch.from_numpy(gaussian_filter(spot.numpy(), 4)), atol=1e-5)
    x = encoded(1, 2, 3, 20, 16).float()
    blurred = rise_blur(x)
    assert float((blurred[:, :3] + blurred[:, 3:] - 1).abs().max()) <= 1e-6 and float(blurred.std()) < float(x.std()) / 3
    assert insertion(curved, x, drawn(0, 2, 20, 16), replace=rise_blur).shape == (2,)
    with pytest.raises(BcosError, match="needs 6 pixels along each axis"):
        rise_blur(drawn(0, 1, 3, 5, 9))


def test_what_cannot_be_scored() -> None:
    for f in (deletion, insertion):
        with pytest.raises(BcosError, match="do not fit pictures of size"):
            f(total, FOUR, torch.ones(1, 3, 3))
        with pytest.raises(BcosError, match=r"predict gave \(5, 1, 2, 2\)"):
            f(lambda x: x, FOUR, FOUR[:, 0], fractions=4)
    with pytest.raises(BcosError, match="step must be 1 or more"):
        pixel_steps(10, 0)
