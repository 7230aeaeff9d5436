"""A residual row: its values, its exact explanation, and that it is written down, loaded and deployed with the network."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional import add_inverse
from torchbcos.zoo import Classifier
from torchbcos.zoo.sequential import build_sequential, describe_sequential


def row(depth: int, b: float) -> nn.Sequential:
    torch.manual_seed(depth)
    inner: nn.Module = bnn.BcosConv2d(6, 6, 3, padding=1, b=b)
    for _ in range(depth):
        inner = bnn.Residual(OrderedDict(conv=bnn.BcosConv2d(6, 6, 1, b=b), inner=inner))
    return nn.Sequential(inner, bnn.GlobalAveragePool(), bnn.BcosLinear(6, 3, b=b))


@given(depth=st.integers(0, 3), b=st.sampled_from([1.0, 1.5, 2.0]))
def test_a_row_is_exact_and_survives_being_written(depth: int, b: float) -> None:
    network, x = row(depth, b).double(), add_inverse(torch.rand(2, 3, 5, 5, dtype=torch.float64))
    e = torchbcos.explain(network, x, targets=[0, 2], verify=True)
    assert float(e.residual.abs().max()) <= 1e-12
    again = build_sequential(describe_sequential(network)).double()
    assert list(again.state_dict()) == list(network.state_dict())
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


def test_it_adds_its_input() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(4, 3)
    assert torch.equal(bnn.Residual(layer)(x), x + layer(x))


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    network = row(2, 2.0).eval()
    made = Classifier(network, class_names=("a", "b", "c"), preprocess={"resize": 8, "crop": 8, "encoding": "add_inverse"})
    torchbcos.save(made, tmp_path / "m")
    x = add_inverse(torch.rand(2, 3, 8, 8))
    for deploy in (False, True):
        found = torchbcos.load(tmp_path / "m", deploy=deploy, device="cpu")
        torch.testing.assert_close(found.model(x), network(x))
        torch.testing.assert_close(torchbcos.explain(found.model, x).weights, torchbcos.explain(network, x).weights)


@pytest.mark.parametrize("entry", [{"layer": "Residual"}, {"layer": "Residual", "with": {"layers": 3}},
                                   {"layer": "Residual", "with": {"layers": [], "rows": 1}}])  # fmt: skip
def test_what_is_no_row(entry: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build_sequential({"layers": [entry]})
