"""Scores of predictions: any metrics, and nothing that could be read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.judging import Outputs, judge
from torchbcos.metrics import accuracy, score

LOGITS, TARGETS = torch.randn(20, 6), torch.randint(6, (20,))


def test_metrics_are_values() -> None:
    def spread(logits: Tensor, targets: Tensor, /, *, probability: str) -> dict[str, float]:
        return {"spread": float(logits.std()), "kind": float(probability == "softmax")}

    outputs = Outputs(LOGITS, TARGETS, tuple(range(20)))
    for kind in ("sigmoid", "softmax"):
        assert judge(outputs, kind) == judge((LOGITS, TARGETS), kind) == score(LOGITS, TARGETS, probability=kind)
        found = judge(outputs, kind, metrics=[accuracy, spread])
        assert list(found) == ["top1", "top5", "spread", "kind"] and found["kind"] == (kind == "softmax")


def test_nothing_could_be_read() -> None:
    lost = Outputs(torch.empty(0, 0), torch.empty(0), (), (0, 1), ("a is broken", "b is broken"))
    with pytest.raises(InputError, match="None of the 2 pictures can be read; the first: a is broken"):
        judge(lost, "sigmoid")
    with pytest.raises(InputError, match="nothing to score"):
        judge(Outputs.join([]), "sigmoid")


def test_a_temperature_changes_calibration_and_not_the_order() -> None:
    logits, targets = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), torch.tensor([0, 1, 1])
    usual, warm = judge((logits, targets), "softmax"), judge((logits, targets), "softmax", temperature=4.0)
    assert usual["top1"] == warm["top1"]
    assert warm == judge((logits / 4, targets), "softmax") != usual
