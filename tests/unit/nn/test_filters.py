"""Unit filters are remembered in eval mode, and every change of the weights is noticed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool(), bnn.BcosLinear(4, 3)).eval()


def step(model: nn.Sequential) -> None:
    model[0].weight.grad = torch.randn_like(model[0].weight)
    torch.optim.SGD(model.parameters(), lr=0.5).step()


def load(model: nn.Sequential) -> None:
    model.load_state_dict({k: torch.randn_like(v) for k, v in model.state_dict().items()})


def edit(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[2].weight[0].fill_(0.7)


def replace(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.randn_like(model[0].weight))


def through_data(model: nn.Sequential) -> None:
    model[0].weight.data[1] = 5.0
    model.eval()


def there_and_back(model: nn.Sequential) -> None:
    model.double().float()


SAME = (there_and_back,)
CHANGES = [step, load, edit, replace, through_data, there_and_back]


def remembered(model: nn.Module) -> list[object]:
    return [m.__dict__["_remembered"] for m in model.modules() if m.__dict__.get("_remembered") is not None]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change: Callable[[nn.Sequential], object]) -> None:
    model, x = network(), torch.rand(2, 6, 5, 5)
    with torch.inference_mode():
        before = model(x)
    assert len(remembered(model)) == 2
    change(model)
    again = network()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(x), again.train()(x))
        assert torch.allclose(model(x), before) == (change in SAME)
    torch.testing.assert_close(torchbcos.explain(model, x, 1).weights, torchbcos.explain(again, x, 1).weights)


def test_an_unnoticed_change_would_be_seen() -> None:
    model, x = network(), torch.rand(2, 6, 5, 5)
    with torch.no_grad():
        before = model(x)
        model[0].weight.data.copy_(torch.randn_like(model[0].weight))  # through .data, without eval(): as documented
        assert torch.equal(model(x), before)
        assert not torch.equal(model.eval()(x), before)


def test_training_remembers_nothing_and_gradients_reach_the_weights() -> None:
    model, x = network(), torch.rand(2, 6, 5, 5)
    model(x).sum().backward()
    assert not remembered(model)
    assert model[0].weight.grad is not None
    with torch.no_grad():
        model.train()(x)
    assert not remembered(model)


def test_remembered_in_inference_mode_and_used_by_an_explanation() -> None:
    model, x = network(), torch.rand(2, 6, 5, 5)
    with torch.inference_mode():
        model(x)
    e = torchbcos.explain(model, x, 0)
    assert e.residual.abs().max() < 1e-5


def test_what_is_remembered_is_neither_pickled_nor_copied() -> None:
    model, x = network(), torch.rand(2, 6, 5, 5)
    bare = len(pickle.dumps(model))
    with torch.no_grad():
        expected = model(x)
    assert remembered(model)
    assert len(pickle.dumps(model)) == bare
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not remembered(other)
        with torch.no_grad():
            assert torch.equal(other(x), expected)
