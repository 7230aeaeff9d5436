"""A network is asked beforehand whether it can be explained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.planted import KNOWN, SLIGHTLY, WRONG, Between
from torchbcos.explanation.looking import objection


@pytest.mark.parametrize("what", WRONG)
def test_what_is_said_of_what_lies(what: str) -> None:
    torch.manual_seed(0)
    said = objection(WRONG[what](), torch.rand(1, 6, 12, 12)) or ""
    assert "not add up" in said and "is missing" in said


@pytest.mark.parametrize("what", SLIGHTLY)
def test_what_is_said_of_what_lies_by_little(what: str) -> None:
    torch.manual_seed(0)
    said = objection(SLIGHTLY[what](torch.float32), torch.rand(1, 6, 12, 12)) or ""
    assert "do not add up to the logit" in said and "check_model(model, x) names it" in said


@pytest.mark.parametrize("what", KNOWN)
def test_nothing_is_said_of_what_is_explained(what: str) -> None:
    torch.manual_seed(0)
    assert objection(KNOWN[what](), torch.rand(1, 6, 12, 12)) is None


class Odd(Between):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError("no picture today")


def test_refusals_and_foreign_errors_are_told_and_nothing_is_left_behind() -> None:
    x = torch.rand(1, 6, 12, 12)
    plain = nn.Sequential(nn.Conv2d(6, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert objection(plain, x) is None
    bent = objection(nn.Sequential(plain, nn.LogSoftmax(1)), x) or ""
    assert "'log_softmax' in '1' (LogSoftmax) is not linear in the input once its factors are held" in bent
    assert objection(Odd(), x) == "no picture today"
    assert objection(Between(), x * float("nan")) is None  # of the input, not of the network
    model, generator = Between(nn.BatchNorm2d(8)), torch.get_rng_state()
    model.second.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objection(model, x)
    assert model.training and not model.second.training and torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
