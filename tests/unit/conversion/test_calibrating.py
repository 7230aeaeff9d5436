from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchbcos
from tests.reference.bcosified import fit_channel, fit_together
from torchbcos.conversion import calibrating
from torchbcos.conversion.calibrating import _RIDGE, fitted
from torchbcos.functional import add_inverse


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


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), noise=st.sampled_from([0.0, 0.3, 2.0]), shared=st.sampled_from([0.25, 1e9]))
def test_factors_are_drawn_to_that_of_all_channels(seed: int, noise: float, shared: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    y, m = torch.randn(20, 3, generator=generator).double(), 1 + torch.rand(20, 1, generator=generator).double()
    scales = torch.tensor([0.5, 1.0, 1.5]).double()
    t = scales * y + torch.tensor([1.0, -2.0, 0.0]) * m + noise * torch.randn(20, 3, generator=generator).double()
    found = fitted(y, m, t, shared=shared)
    ys, ms, ts = y.T.tolist(), m[:, 0].tolist(), t.T.tolist()
    together, _ = fit_together(ys, ms, ts, _RIDGE)
    alone = torch.tensor([fit_channel(a, ms, c, _RIDGE)[0] for a, c in zip(ys, ts, strict=True)]).double()
    s = ((alone + shared * together) / (1 + shared)).clamp_min(0.05)
    square = (m * m).mean() * (1 + _RIDGE)
    spread = (s * y + ((m * t).mean(0) - s * (m * y).mean(0)) / square * m).var(0, correction=0)
    wanted = t.var(0, correction=0)
    ratio = (wanted / spread + shared * wanted.sum() / spread.sum()) / (1 + shared)
    assert found.scale.tolist() == pytest.approx((s * ratio.sqrt().clamp(1, 2)).tolist(), rel=1e-6)
    assert (found.scale * y + found.bias * m).mean(0).tolist() == pytest.approx(t.mean(0).tolist(), abs=1e-9)
    together_alone = fitted(y, None, 3 * y, shared=shared)
    assert torch.allclose(together_alone.scale, torch.full((3,), 3.0).double()) and not bool(together_alone.bias.any())


def test_classes_are_not_fitted_to_a_few_pictures_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few pictures a factor for each class is noise, and the largest logit goes to whom the noise favours."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 40)).eval()
    x = torch.rand(12, 3, 9, 9)
    uneven = []
    for shared in (calibrating._SHARED, 0.0):
        monkeypatch.setattr(calibrating, "_SHARED", shared)
        model, _ = torchbcos.bcosify(net, b=1, example=x, mean=(0.5,) * 3, std=(0.5,) * 3)
        assert model(add_inverse(x)).mean(0).tolist() == pytest.approx(net(2 * x - 1).mean(0).tolist(), abs=1e-4)
        layers: Any = model[-1], net[-1]
        ratio = layers[0].weight.detach().norm(dim=1) / layers[1].weight.detach().norm(dim=1)
        uneven.append(float(ratio.std() / ratio.mean()))
    assert uneven[0] < 0.02 < 0.1 < uneven[1]
