"""Of a network whose input is normalised the pixels are explained; predictions stay as they are, to the bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import InputError, StateError
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """A plain network of torch alone."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    network.train()(torch.rand(16, 3, 12, 12))
    prepare = Preprocess(resize=14, crop=12, encoding="normalize", mean=MEAN, std=STD)
    return Classifier(network.eval(), preprocess=prepare, probability="softmax")


def test_pixels_are_explained_and_predictions_stay(classifier: Classifier) -> None:
    picture = torch.rand(3, 20, 17)
    e = classifier.explain(picture, [[0, 3]])
    assert torch.equal(e.inputs, classifier.transform.look([("x", picture)], encode=False)[0])
    assert torch.equal(e.outputs, classifier.model(classifier.preprocess(picture)))
    assert classifier.predict(picture)[0][0].logit == float(e.outputs.max())
    assert "preprocess.mean" in e.constants and bool(e.complete.all()) and float(e.residual.abs().max()) < 1e-5
    encoded = torchbcos.explain(classifier.model, classifier.preprocess(picture), [[0, 3]])
    std, mean = (torch.tensor(m).reshape(1, 1, 3, 1, 1) for m in (STD, MEAN))
    torch.testing.assert_close(e.weights, encoded.weights / std)
    torch.testing.assert_close(e.constants["preprocess.mean"], -(encoded.weights * mean / std).sum((2, 3, 4)))
    assert {name for name in e.constants if name != "preprocess.mean"} == set(encoded.constants)
    assert e.panel(0, 0).size[0] > 100


def test_bars_of_a_letterbox_stay_the_mean(classifier: Classifier) -> None:
    e = classifier.explain(torch.ones(3, 30, 10), 0, fit="letterbox")
    assert torch.allclose(e.inputs[0, :, 0, 0], torch.tensor(MEAN))
    assert torch.equal(e.outputs, classifier.model(classifier.fitted("letterbox").preprocess(torch.ones(3, 30, 10))))


def test_half_precision_keeps_its_pixels(classifier: Classifier) -> None:
    half = Classifier(copy.deepcopy(classifier.model).to(torch.bfloat16), classifier.card)
    picture = (torch.arange(3 * 12 * 12) % 256).reshape(3, 12, 12) / 255
    e = half.explain(picture, 0)
    assert e.inputs.dtype == torch.float32 and torch.equal(e.inputs, half.transform.look([("x", picture)], encode=False)[0])
    assert torch.equal(e.outputs, half.model(half.preprocess(picture)))


def test_a_plain_twin_of_ours() -> None:
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3, plain=True).eval()
    found = Classifier(network)
    assert found.transform.encoding == "normalize"
    e = found.explain(torch.rand(3, 40, 40))
    assert "preprocess.mean" in e.constants and bool(e.complete.all()) and e.inputs.shape[1] == 3
    assert float(e.inputs.min()) >= 0 and float(e.inputs.max()) <= 1


def test_other_encodings_are_as_ever() -> None:
    e = torchbcos.load(device="cpu").explain(torch.rand(3, 170, 170))
    assert e.inputs.shape[1] == 6 and "preprocess.mean" not in e.constants


@pytest.mark.newest
def test_an_exported_file_explains_pixels(classifier: Classifier, tmp_path: Path) -> None:
    made = torchbcos.export(classifier, tmp_path / "why.pt2", top_k=2)
    given = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8)
    pixels = given.permute(0, 3, 1, 2).float() / 255
    extra = {"torchbcos.json": ""}
    program = torch.export.load(tmp_path / "why.pt2", extra_files=extra).module()
    found = program(given)
    facts = json.loads(extra["torchbcos.json"])
    same = Classifier(classifier.model, preprocess={**classifier.transform.to_dict(), "resize": None}, probability="softmax")
    e = same.explain(pixels, top_k=2)
    assert facts["explained"] == "pixels" and facts["constants"] == list(made.constants) == list(e.constants)
    for name, wanted in (("weights", e.weights), ("contributions", e.contributions)):
        torch.testing.assert_close(found[name], wanted, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found["constants"], torch.stack(list(e.constants.values()), -1), atol=1e-5, rtol=1e-4)


@pytest.mark.newest
def test_without_preprocessing_a_file_explains_what_it_takes(classifier: Classifier, tmp_path: Path) -> None:
    made = torchbcos.export(classifier, tmp_path / "why.pt2", preprocessing=False)
    extra = {"torchbcos.json": ""}
    torch.export.load(tmp_path / "why.pt2", extra_files=extra)
    assert json.loads(extra["torchbcos.json"])["explained"] == "encoded" and "preprocess.mean" not in made.constants


class Product(nn.Module):
    """Multiplies two signals, neither of which comes from an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) * self.two(x)).mean((2, 3))


def test_products_of_signals_are_the_callers_word(recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    found = Classifier(Product(), preprocess=Preprocess(crop=8, encoding="normalize", mean=MEAN, std=STD))
    assert any("a product of two signals" in str(warning.message) for warning in recwarn)
    picture = torch.rand(3, 8, 8)
    with pytest.raises(StateError, match="products"):
        found.explain(picture, 0)
    half, first = (found.explain(picture, 0, products=word, verify=True) for word in ("half", "first"))
    assert bool(half.complete.all()) and bool(first.complete.all()) and not torch.allclose(half.weights, first.weights)
    assert torch.equal(next(found.iter_explain([picture], 0, products="half")).weights, half.weights)
    with pytest.raises(InputError, match="products must be"):
        found.explain(picture, 0, products="all")
