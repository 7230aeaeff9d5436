"""Fitting a temperature on the predictions of a split, and when none is kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.judging import Outputs, calibrate, judge
from torchbcos.metrics import fit_temperature


def outputs(n: int = 300, *, true: float = 2.0) -> Outputs:
    """Predictions that are too sure: classes drawn from a softmax of the logits divided by `true`."""
    random = torch.Generator().manual_seed(1)
    z = 3 * torch.randn(n, 4, generator=random)
    y = torch.multinomial((z / true).softmax(1), 1, generator=random)[:, 0]
    return Outputs(z, y, tuple(range(n)))


def rewritten(found: Outputs, logits: Tensor | None = None, targets: Tensor | None = None) -> Outputs:
    z, y = found.logits if logits is None else logits, found.targets if targets is None else targets
    return Outputs(z, y, found.rows)


def test_before_and_after() -> None:
    said = outputs()
    found = calibrate(said, "softmax")
    assert found.temperature == round(fit_temperature(said.logits, said.targets, probability="softmax"), 4)
    assert 1.6 < found.temperature < 2.5 and found.examples == 300 and found.note == ""
    numbers = found.compared(said, "softmax")
    with_it = judge(said, "softmax", temperature=found.temperature)
    assert numbers["after"] == {name: round(with_it[name], 4) for name in ("ece", "loss")}
    assert numbers["after"]["ece"] < numbers["before"]["ece"] and numbers["after"]["loss"] < numbers["before"]["loss"]


def test_few_examples_are_said_to_be_few() -> None:
    assert calibrate(outputs(99), "softmax").note == "Fitted on 99 examples alone: a rough value."
    assert calibrate(outputs(100), "softmax").note == ""


def test_when_no_temperature_is_kept() -> None:
    said = outputs(20)
    right = rewritten(said, targets=said.logits.argmax(1))
    wrong = rewritten(said, targets=said.logits.argmin(1))
    broken = rewritten(said, logits=said.logits.clone().fill_(math.nan))
    unknown = rewritten(said, targets=torch.full_like(said.logits, math.nan))
    for given, note in (
        (right, "All of these 20 examples are answered rightly: the surer, the likelier."),
        (wrong, "On these 20 examples the network is no better than a guess."),
        (broken, "The network gives NaN or infinity."),
        (unknown, "No label of these examples is known."),
    ):
        found = calibrate(given, "softmax")
        assert (found.temperature, found.note) == (None, note)
        numbers = found.compared(given, "softmax")
        assert numbers["before"] == numbers["after"]
    with pytest.raises(InputError, match="nothing to fit a temperature on"):
        calibrate(Outputs(torch.empty(0, 0), torch.empty(0, dtype=torch.int64), ()), "softmax")


def test_several_labels_have_no_loss() -> None:
    said = outputs()
    labels = torch.nn.functional.one_hot(said.targets, 4).float()
    found = calibrate(rewritten(said, targets=labels), "sigmoid")
    assert found.temperature == calibrate(said, "sigmoid").temperature  # of sigmoids, one class is several labels
    assert set(found.compared(rewritten(said, targets=labels), "sigmoid")["after"]) == {"ece"}
