"""Scores against counting by hand, and what cannot be scored."""

from __future__ import annotations

import pytest
import torch

from torchbcos._core.errors import InputError
from torchbcos.metrics import accuracy, score


def test_scores_against_plain_counting() -> None:
    logits, y = torch.randn(50, 6), torch.randint(6, (50,))
    found = score(logits, y)
    assert found["top1"] == pytest.approx(100 * float((logits.argmax(1) == y).float().mean()))
    five = sum(int(t) in row.topk(5).indices.tolist() for row, t in zip(logits, y, strict=True))
    assert found["top5"] == pytest.approx(100 * five / 50)
    with pytest.raises(InputError, match="nothing to score"):
        score(logits[:0], y[:0])


@pytest.mark.parametrize("probability", ["sigmoid", "softmax"])
def test_calibration_and_loss_against_plain_counting(probability: str) -> None:
    logits, y = torch.randn(200, 6, dtype=torch.float64), torch.randint(6, (200,))
    found = score(logits, y, probability=probability)
    chances = logits.softmax(1) if probability == "softmax" else 1 / (1 + (-logits).exp())
    shares = chances / chances.sum(1, keepdim=True)
    assert found["loss"] == pytest.approx(-sum(float(shares[i, y[i]].log()) for i in range(200)) / 200, rel=1e-5)
    error = 0.0
    for k in range(15):
        inside = [i for i in range(200) if k / 15 < float(chances[i].max()) <= (k + 1) / 15]
        right = sum(int(chances[i].argmax()) == int(y[i]) for i in inside)
        error += abs(sum(float(chances[i].max()) for i in inside) - right) / 200
    assert found["ece"] == pytest.approx(100 * error, abs=1e-4)


def test_several_labels() -> None:
    logits, y = torch.tensor([[3.0, -3.0], [2.0, 4.0], [-1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = score(logits, y)
    assert list(found) == ["map", "f1", "ece"] and found["map"] == 100.0
    assert found["f1"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert list(score(logits[:, :1], y[:, :1])) == ["map", "f1", "ece"]


def test_accuracy_is_a_part_of_the_score() -> None:
    logits, y = torch.randn(50, 6), torch.randint(6, (50,))
    assert accuracy(logits, y).items() <= score(logits, y).items()


def test_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="One class alone"):
        score(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="There are 3 predictions for 2 examples"):
        accuracy(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="one class an example"):
        accuracy(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"probability is 'sigmoid' or 'softmax', not 'sofmax'\. Did you mean 'softmax'"):
        score(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), probability="sofmax")
