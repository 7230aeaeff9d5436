"""The card's temperature divides logits where they become probabilities, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.models import build
from torchbcos.zoo import Classifier, create_model
from torchbcos.zoo.describe import card_of


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    net = build("cifar10_resnet20", num_classes=4, width_factor=0.25).eval()
    net.class_names = ("a", "b", "c", "d")
    torchbcos.recalibrate(net, [torch.rand(4, 6, 32, 32)])
    return Classifier(net, card_of(net))


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_only_the_probability_feels_it(classifier: Classifier, kind: str) -> None:
    usual = Classifier(classifier.model, dataclasses.replace(classifier.card, probability=kind))
    warm = Classifier(classifier.model, dataclasses.replace(usual.card, temperature=2.0))
    picture = torch.rand(3, 32, 32)
    before, after = usual.predict(picture, top_k=4)[0], warm.predict(picture, top_k=4)[0]
    assert [p.logit for p in after] == [p.logit for p in before] and [p.index for p in after] == [p.index for p in before]
    logits = torch.tensor([[p.logit for p in after]], dtype=torch.float64) / 2
    expected = logits.sigmoid() if kind == "sigmoid" else logits.softmax(1)
    assert [p.probability for p in after] == pytest.approx(expected[0].tolist(), abs=1e-6)
    assert [p.probability for p in after] != pytest.approx([p.probability for p in before], abs=1e-3)  # it can fail
    e, f = usual.explain(picture, top_k=4), warm.explain(picture, top_k=4)
    assert e.values.equal(f.values) and e.weights.equal(f.weights) and e.outputs.equal(f.outputs)
    assert f[0].probabilities()[0].sort(descending=True).values.tolist() == pytest.approx(expected[0].tolist(), abs=1e-6)
    assert f.to_dict() == {**e.to_dict(), **f.to_dict()}


def test_it_is_saved_and_goes_along(classifier: Classifier, tmp_path: Path) -> None:
    warm = Classifier(classifier.model, dataclasses.replace(classifier.card, temperature=0.5))
    torchbcos.save(warm, tmp_path / "a")
    loaded = torchbcos.load(tmp_path / "a", device="cpu")
    assert loaded.card.temperature == 0.5
    torchbcos.save(create_model(weights=tmp_path / "a"), tmp_path / "b")  # a network remembers what its card said
    assert torchbcos.load(tmp_path / "b", device="cpu").card.temperature == 0.5
    assert "temperature" not in classifier.card.to_dict()  # old cards stay as they are


@pytest.mark.parametrize("wrong", [0, -1.0, True, "1", float("nan"), float("inf"), 1e-9])
def test_what_no_temperature_is(classifier: Classifier, wrong: object) -> None:
    with pytest.raises(InputError, match=r"the field 'temperature' must be a number from 0\.01 to 100"):
        dataclasses.replace(classifier.card, temperature=wrong)
