from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.bcosified import fit_channel
from torchbcos.conversion.calibrating import _RIDGE, fitted


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), noise=st.sampled_from([0.0, 0.1, 1.0]))
def test_a_fit_equals_its_twin_but_for_the_spread_that_is_restored(seed: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    y, m = torch.randn(60, 3, generator=generator).double(), 1 + torch.rand(60, 1, generator=generator).double()
    t = 2 * y + 0.5 * m + noise * torch.randn(60, 3, generator=generator).double()
    found = fitted(y, m, t)
    for c in range(3):
        s, b = fit_channel(y[:, c].tolist(), m[:, 0].tolist(), t[:, c].tolist(), _RIDGE)
        given_there = [s * float(y[i, c]) + b * float(m[i, 0]) for i in range(60)]
        wider = min(2.0, max(1.0, float(t[:, c].std(correction=0)) / float(torch.tensor(given_there).std(correction=0))))
        assert float(found.scale[c]) == pytest.approx(s * wider, rel=1e-6)
        mean = math.fsum(float(found.scale[c] * y[i, c] + found.bias[c] * m[i, 0]) for i in range(60)) / 60
        assert mean == pytest.approx(float(t[:, c].mean()), abs=1e-9)  # the mean is kept


def test_what_can_be_matched_is() -> None:
    y, m = torch.randn(100, 2).double(), torch.ones(100, 1).double()
    found = fitted(y, m, y * torch.tensor([3.0, 0.5]).double() + torch.tensor([1.0, -2.0]).double())
    assert torch.allclose(found.scale, torch.tensor([3.0, 0.5]).double(), rtol=1e-3) and found.explained > 0.999
    alone = fitted(y, None, 3 * y)
    assert torch.allclose(alone.scale, torch.full((2,), 3.0).double(), rtol=1e-3) and not bool(alone.bias.any())


def test_a_channel_that_cannot_be_matched_keeps_a_small_positive_factor() -> None:
    y, m = torch.randn(100, 2).double(), torch.ones(100, 1).double()
    y[:, 1] = 0  # a dead filter
    found = fitted(y, m, torch.stack([-y[:, 0], torch.randn(100).double()], 1))
    assert bool((found.scale > 0).all()) and bool(found.bias.isfinite().all()) and bool(found.scale.isfinite().all())
    assert found.explained < 0.5
