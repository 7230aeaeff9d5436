"""Losses against plain float64 twins, and their sum."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.unit.training.data import patches
from tests.unit.training.partial import learned, share_of
from torchbcos.training import Recipe
from torchbcos.training.losses import (
    Answer,
    Batch,
    Bce,
    CrossEntropy,
    Distillation,
    ExplanationDistillation,
    Guidance,
    Objective,
    classification,
    terms_of,
)
from torchbcos.training.optimisation import targets_of


def classification_loss(logits: Tensor, targets: Tensor, recipe: Recipe, *, multi_label: bool = False) -> Tensor:
    return classification(recipe, logits.shape[1], multi_label=multi_label).loss(logits, targets)


def bce_twin(logits: list[list[float]], targets: list[list[float]]) -> float:
    total, count = 0.0, 0
    for row, wanted in zip(logits, targets, strict=True):
        for z, t in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-z))
            total -= t * math.log(p) + (1 - t) * math.log(1 - p)
            count += 1
    return total / count


@given(
    n=st.integers(1, 4), c=st.integers(2, 6), smoothing=st.sampled_from([0.0, 0.1]), kind=st.sampled_from(["bce", "bce_uniform"])
)  # fmt: skip
def test_bce_with_uniform_off_labels_and_smoothing(n: int, c: int, smoothing: float, kind: str) -> None:
    torch.manual_seed(n * 10 + c)
    logits, y = torch.randn(n, c, dtype=torch.float64), torch.randint(c, (n,))
    recipe = Recipe(loss=kind, smoothing=smoothing)  # type: ignore[arg-type]
    wanted = [[(1.0 if k == int(y[i]) else 0.0) * (1 - smoothing) + smoothing / c for k in range(c)] for i in range(n)]
    if kind == "bce_uniform":
        wanted = [[max(t, 1 / c) for t in row] for row in wanted]
    found = classification_loss(logits, targets_of(y, c).double(), recipe)
    assert float(found) == pytest.approx(bce_twin(logits.tolist(), wanted), rel=1e-9)


LABELS = st.sampled_from([0.0, 1.0, 0.7, math.nan])


@given(n=st.integers(1, 4), c=st.integers(1, 4), smoothing=st.sampled_from([0.0, 0.1]), data=st.data())
def test_unknown_labels_are_left_out_of_the_loss_and_soft_ones_trained_on(
    n: int, c: int, smoothing: float, data: st.DataObject
) -> None:
    """The mean over what is known, and no gradient where nothing is."""
    logits = torch.randn(n, c, dtype=torch.float64, generator=torch.Generator().manual_seed(n + 10 * c)).requires_grad_()
    targets = [[data.draw(LABELS) for _ in range(c)] for _ in range(n)]
    known = [(i, k) for i in range(n) for k in range(c) if targets[i][k] == targets[i][k]]
    loss = classification(Recipe(smoothing=smoothing), c, multi_label=True, partial=True)
    assert isinstance(loss, Bce) and loss.partial
    found = loss.loss(logits, torch.tensor(targets, dtype=torch.float64))
    wanted = [[targets[i][k] * (1 - smoothing) + smoothing / 2] for i, k in known]
    expected = bce_twin([[logits[i, k].item()] for i, k in known], wanted) if known else 0.0
    assert found.item() == pytest.approx(expected, rel=1e-9)
    gradient = torch.autograd.grad(found, logits)[0]
    moved = {(i, k) for i in range(n) for k in range(c) if gradient[i, k].item() != 0}
    assert moved == set(known)


def test_a_threshold_leaves_unknown_labels_unknown() -> None:
    loss = Bce(threshold=0.5, partial=True)
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    found = loss.loss(logits, torch.tensor([[0.7, math.nan, 0.2]]))
    assert float(found) == pytest.approx(float(Bce().loss(logits[:, [0, 2]], torch.tensor([[1.0, 0.0]]))))


def test_guidance_explains_a_label_that_is_known_to_hold() -> None:
    """An unknown one, NaN, was taken for the largest of all, and a picture with nothing else for annotated."""
    torch.manual_seed(0)
    network, x = patches(2, 6).eval(), torch.rand(3, 6, 8, 8)
    mask = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    mask[:, :, 2:5, 1:6] = 1
    found = []
    for y in ([[math.nan, 1.0], [math.nan, math.nan], [0.3, 0.9]], [[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]]):
        batch = Batch(x, torch.tensor(y), torch.tensor(y), mask)
        found.append(Guidance(1.0).term(Answer(network, batch, network(x))).item())
    assert found[0] == found[1] != 0


def test_two_processes_that_know_different_numbers_of_labels_are_one(tmp_path: Path) -> None:
    """A mean of the means of both would weigh the labels of the one that knows little more."""
    words = [sys.executable, "-m", "tests.unit.training.partial", str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    losses, gradients = learned(*share_of(-1))
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert theirs[0] == pytest.approx(losses, rel=1e-12)
        for found, expected in zip(theirs[1], gradients, strict=True):
            torch.testing.assert_close(found, expected)


def test_where_everything_is_known_the_loss_is_the_plain_one() -> None:
    logits, targets = torch.randn(3, 4), torch.rand(3, 4)
    assert float(Bce(partial=True).loss(logits, targets)) == pytest.approx(float(Bce().loss(logits, targets)), rel=1e-6)


def test_cross_entropy_threshold_and_several_labels() -> None:
    logits, targets = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.6, 0.4, 0.0]])
    found = classification_loss(logits, targets, Recipe(loss="cross_entropy"))
    p = [math.exp(z) / sum(math.exp(v) for v in (1, -2, 0.5)) for z in (1, -2, 0.5)]
    assert float(found) == pytest.approx(-0.6 * math.log(p[0]) - 0.4 * math.log(p[1]), rel=1e-6)
    found = classification_loss(logits, targets, Recipe(threshold=0.5))
    assert float(found) == pytest.approx(bce_twin(logits.tolist(), [[1.0, 0.0, 0.0]]), rel=1e-6)
    found = classification_loss(logits, torch.tensor([[1.0, 1.0, 0.0]]), Recipe(loss="bce_uniform"), multi_label=True)
    assert float(found) == pytest.approx(bce_twin(logits.tolist(), [[1.0, 1.0, 0.0]]), rel=1e-6)
    found = classification_loss(logits, torch.tensor([[1.0, 1.0, 0.0]]), Recipe(smoothing=0.2), multi_label=True)
    assert float(found) == pytest.approx(bce_twin(logits.tolist(), [[0.9, 0.9, 0.1]]), rel=1e-6)


def test_the_losses_of_a_recipe_are_values_with_weights() -> None:
    """Equal recipes have equal losses; each ingredient adds one."""
    assert terms_of(Recipe(loss="cross_entropy", smoothing=0.1), 4) == (CrossEntropy(0.1),)
    assert terms_of(Recipe(loss="cross_entropy"), 4, multi_label=True) == (Bce(),)
    assert terms_of(Recipe(loss="bce_uniform"), 4) == (Bce(even=0.25, least=0.25),)
    recipe = Recipe(
        guide="l1", guide_weight=2.0, guide_at="layer1", guide_order="full", guide_per_box=True, teacher="t", teacher_weight=0.5,
        teacher_explanations=3.0,
    )  # fmt: skip
    own, *others = terms_of(recipe, 2)
    assert own == Bce(even=0.5) and own.weight == 1
    assert others == [Guidance(2.0, "l1", "layer1", True, True), Distillation(0.5), ExplanationDistillation(3.0, True)]
    (own, one) = terms_of(Recipe(loss="cross_entropy", teacher="t.pt2", teacher_weight=1.0), 3)
    assert one == Distillation(1.0, shared=True)


@dataclass(frozen=True)
class Size:
    """A loss of a test's own: any value with a weight and a term."""

    weight: float

    def term(self, answer: Answer) -> Tensor:
        return answer.logits.square().mean()


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_the_objective_is_the_weighted_sum(half: torch.dtype | None) -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(4, 3, 2, 2)
    batch = Batch(x, targets_of(torch.tensor([0, 1, 2, 0]), 3), torch.tensor([0, 1, 2, 0]))
    loss = Objective(network, [Bce(), Size(0.5)], half=half)(batch)
    logits = network(x)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, batch.targets) + 0.5 * logits.square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5 if half is None else 2e-2, atol=1e-6 if half is None else 1e-2)
    assert loss.dtype == torch.float32
    if half is not None:  # computed in half precision indeed
        assert loss != expected
    loss.backward()
    assert next(network.parameters()).grad is not None
