"""`check_model` names the modules that no explanation knows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unit.explanation.test_complete import WRONG, Between
from torchbcos.testing import LawBroken, check_model


@pytest.mark.parametrize(("what", "where"), [
    ("a norm", r"'between' \(BatchNorm2d\)"), ("a bias", r"'behind' \(Linear\)"), ("gelu", r"'between' \(GELU\)"),
    ("softplus", "the forward of Between itself"), ("a number", r"'behind' \(Plus\)"), ("layer norm", r"'behind' \(LayerNorm\)"),
])  # fmt: skip
def test_it_names_the_module(what: str, where: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(LawBroken, match=rf"Complete: .* happens in {where}"):
        check_model(WRONG[what]().eval(), torch.rand(1, 6, 12, 12))


def test_the_innermost_of_several() -> None:
    torch.manual_seed(0)
    model = Between(nn.Sequential(nn.Identity(), nn.Sequential(nn.GELU())), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))
    with pytest.raises(LawBroken, match=r"'between.1.0' \(GELU\), 'behind.0' \(Linear\), 'behind.1' \(Linear\)\."):
        check_model(model.eval(), torch.rand(1, 6, 12, 12))
