"""Filters of unit norm, brought back to the length at which they learn."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.models import refresh_filters


def test_outputs_stay_and_lengths_are_those_of_fresh_filters() -> None:
    torch.manual_seed(0)
    net = torchbcos.create_model("cifar10_resnet20", num_classes=3, max_out=2).double().eval()
    torchbcos.recalibrate(net, [torch.rand(8, 6, 16, 16, dtype=torch.float64)])
    fresh = {name: p.detach().flatten(1).norm(dim=1).mean() for name, p in net.named_parameters() if p.dim() == 4}
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() == 4:
                p.mul_(torch.rand(len(p), 1, 1, 1, dtype=p.dtype) * 50 + 1)
    net = net.to(memory_format=torch.channels_last)  # a flattened view of such a filter is a copy
    x = torch.rand(2, 6, 16, 16, dtype=torch.float64)
    before = net(x)
    refresh_filters(net)
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-12)
    for name, p in net.named_parameters():
        if p.dim() == 4:
            torch.testing.assert_close(p.flatten(1).norm(dim=1), torch.full((len(p),), 3**-0.5, dtype=p.dtype))
            assert float(p.detach().flatten(1).norm(dim=1).mean()) == pytest.approx(float(fresh[name]), rel=0.1)


@given(length=st.floats(1.0, 1e3), seed=st.integers(0, 99))
def test_a_step_turns_a_long_filter_less(length: float, seed: int) -> None:
    """The reason: the same step of the same rate turns a filter of length L by about 1/L² of a fresh one's angle."""
    torch.manual_seed(seed)
    layer, x = bnn.BcosLinear(6, 1).double(), torch.rand(4, 6, dtype=torch.float64)
    refresh_filters(layer)

    def angle(factor: float) -> float:
        own = copy.deepcopy(layer)
        with torch.no_grad():
            own.weight.mul_(factor)
        before = own.weight.detach().clone()
        own(x).sum().backward()
        after = before - 1e-4 * own.weight.grad
        return float(torch.acos(nn.functional.cosine_similarity(before, after).clamp(-1, 1)))

    assert angle(length) * length**2 == pytest.approx(angle(1.0), rel=0.05, abs=1e-6 * length**2)


def test_layers_without_unit_norm_and_zero_filters_stay() -> None:
    plain, zero, other = bnn.BcosLinear(3, 2, unit_norm=False), bnn.BcosConv1d(2, 2, 3), nn.Linear(3, 2)
    with torch.no_grad():
        zero.weight[0] = 0
    net = nn.ModuleList([plain, zero, other])
    before = copy.deepcopy(net.state_dict())
    refresh_filters(net)
    after = net.state_dict()
    assert torch.equal(before["0.weight"], after["0.weight"]) and torch.equal(before["2.weight"], after["2.weight"])
    assert not after["1.weight"][0].any() and not torch.equal(before["1.weight"][1], after["1.weight"][1])
