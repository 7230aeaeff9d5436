"""`check_model` names the modules that break a law."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.planted import ADDS_UP, WRONG, Between, Hides, Says
from torchbcos.testing import LawBroken, check_model

ITSELF = "the forward of Between itself, outside of its modules"


@pytest.mark.parametrize(("what", "where"), [
    ("a norm", r"'between' \(Says\)"), ("a bias", r"'behind' \(Hides\)"), ("gelu", r"'between' \(Says\)"),
    ("softplus", ITSELF), ("a number", r"'behind' \(Says\)"), ("layer norm", r"'behind' \(Says\)"),
    ("a cut", r"'between' \(Says\)"),
])  # fmt: skip
def test_it_names_the_module(what: str, where: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(LawBroken, match=rf"Complete: .* happens in {where}\."):
        check_model(WRONG[what]().eval(), torch.rand(1, 6, 12, 12))


@pytest.mark.parametrize(("what", "where"), [
    ("a factor in a layer", r"'between' \(Says\)"), ("a factor in an operation", ITSELF),
    ("two gates", r"'between' \(Says\)"), ("no second derivative", r"'between' \(Says\)"),
])  # fmt: skip
def test_it_names_the_module_whose_w_moves(what: str, where: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(LawBroken, match=rf"Linear once held: .* happens in {where}") as caught:
        check_model(ADDS_UP[what][0]().eval(), torch.rand(1, 6, 12, 12))
    assert len(str(caught.value)) <= 500


def test_the_innermost_of_several() -> None:
    """What the watch knows (a GELU, an ordinary bias) is not named beside what lies."""
    torch.manual_seed(0)
    behind = nn.Sequential(Hides(3, 0.5), nn.Linear(3, 3), Hides(3, 0.25))
    model = Between(nn.Sequential(nn.GELU(), nn.Sequential(Says(torch.tanh))), behind)
    with pytest.raises(LawBroken, match=r"'between\.1\.0' \(Says\), 'behind\.0' \(Hides\), 'behind\.2' \(Hides\)\."):
        check_model(model.eval(), torch.rand(1, 6, 12, 12))


def test_of_a_network_that_trains_a_copy_is_looked_at() -> None:
    model = Between(nn.BatchNorm2d(8), nn.Sequential(Hides(3, 0.5)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(LawBroken, match=r"happens in 'behind\.0' \(Hides\)\."):
        check_model(model, torch.rand(2, 6, 12, 12))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
