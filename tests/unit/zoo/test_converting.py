"""Converted networks: they save, load, deploy, export, train, and their cards say how they came to be."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import BcosError, InputError, MissingPackageError, StateError, WeightsError
from torchbcos.conversion import Report, conversion_of, steps_from
from torchbcos.zoo import Classifier, from_timm
from torchbcos.zoo.converting import pixels_of

timm = pytest.importorskip("timm")
vision = pytest.importorskip("torchvision")

MOMENTS = {"encoding": "normalize", "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}
NAMES = ("cat", "dog", "cow", "hen")
OPTIONS: dict[str, dict[str, Any]] = {
    "norm": {}, "same": {"b": 1, "biases": "keep"},
    "all": {"b": {"conv": 1.5, "classifier": 2.0}, "biases": "drop", "unit_norm": True, "antialias": True, "blur": 1},
}  # fmt: skip
BUILDER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4, in_channels=3, width=8):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(in_channels, width, 3, 2, 1), nn.BatchNorm2d(width)
        self.conv, self.fc = nn.Conv2d(width, width, 3, 1, 1), nn.Linear(width, num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.fc((x + torch.nn.functional.silu(self.conv(x))).mean((2, 3)))

def build(num_classes=4, in_channels=3):
    return Net(num_classes, in_channels, 12)

def trained():
    torch.manual_seed(1)
    return build()
"""


def sequence() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    net(torch.randn(16, 3, 16, 16))  # moments of the norm
    return net.eval()


def classifier(net: nn.Module | None = None, side: int = 16) -> Classifier:
    made = {"resize": side, "crop": side, **MOMENTS}
    return Classifier(sequence() if net is None else net, class_names=NAMES, preprocess=made, probability="softmax")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def converted(pixels: Tensor) -> tuple[Classifier, Report]:
    return torchbcos.bcosify(classifier(), example=pixels)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A converted network of ours, in a folder and as it is."""
    folder = tmp_path_factory.mktemp("plain")
    given = torchbcos.create_model("cifar10_resnet20", num_classes=3, plain=True).eval()
    made, _ = torchbcos.bcosify(given, example=torch.rand(2, 3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    torchbcos.save(made, folder)
    return folder, made


def same(one: nn.Module, other: nn.Module, x: Tensor, tolerance: float = 1e-5) -> bool:
    with torch.no_grad():
        a, b = one(x), other(x)
    return bool((a - b).abs().max() <= tolerance * a.abs().max())


# -- a classifier ------------------------------------------------------------------------------------------------------------


def test_the_card_says_how_it_came_to_be(converted: tuple[Classifier, Report]) -> None:
    made, report = converted
    card = made.card
    assert card.in_channels == 6 and card.class_names() == NAMES and card.probability == "softmax"
    assert made.transform.encoding == "add_inverse" and made.transform.crop == 16 and card.preprocess["mean"] is None
    assert card.conversion == conversion_of(made.model) and card.conversion["settings"]["b"] == 2.0
    assert steps_from(card.conversion["steps"]) == report.steps
    assert card.parameters == sum(p.numel() for p in made.model.parameters())
    assert type(card).from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_the_same_function_at_b_1_and_what_was_measured_of_the_given_network_goes(pixels: Tensor) -> None:
    given = classifier()
    given = Classifier(given.model, dataclasses.replace(given.card, top1=50.0, measured="mine", temperature=1.5))
    made, report = torchbcos.bcosify(given, example=pixels, **OPTIONS["same"])
    for a, b in zip(made.predict(pixels, top_k=1), given.predict(pixels, top_k=1), strict=True):
        assert a[0].label == b[0].label and a[0].probability == pytest.approx(b[0].probability, abs=1e-5)
    assert report.kept < 1e-5 and (made.card.top1, made.card.temperature) == (50.0, 1.5)
    other, _ = torchbcos.bcosify(given, example=pixels)
    assert (other.card.top1, other.card.measured, other.card.temperature) == (None, None, None)
    fitted, report = torchbcos.bcosify(given, b=1, example=pixels[:1])  # to one picture, whose logits say nothing of others
    assert fitted.card.top1 is None and report.settings["calibrated"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_sequence_goes_through_a_folder(options: dict[str, Any], pixels: Tensor, tmp_path: Path) -> None:
    made, _ = torchbcos.bcosify(classifier(), example=pixels, **options)
    torchbcos.save(made, tmp_path)
    x = made.preprocess(pixels)
    back, twin = (torchbcos.load(tmp_path, device="cpu", deploy=deploy) for deploy in (False, True))
    assert same(back.model, made.model, x, 0) and same(twin.model, made.model, x) and back.card.conversion == made.card.conversion
    torchbcos.save(twin, tmp_path / "twin")
    again = torchbcos.load(tmp_path / "twin", device="cpu")
    assert again.card.deployed and same(again.model, made.model, x)
    e = again.explain(pixels[:2])
    constant = any(bool(c.any()) for c in e.constants.values())
    assert bool(e.complete.all()) and constant == (options.get("biases") == "keep")


def test_a_sequence_whose_layers_are_known_once_it_is_converted(tmp_path: Path) -> None:
    stem = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    net = nn.Sequential(stem, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    made, _ = torchbcos.bcosify(classifier(net, 8), example=torch.rand(4, 3, 8, 8))
    torchbcos.save(made, tmp_path)
    back = torchbcos.load(tmp_path, device="cpu", deploy=False)
    assert same(back.model, made.model, torch.rand(2, 6, 8, 8), 0)


def test_a_network_without_a_first_convolution_is_decoded(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.ReLU(), nn.Linear(16, 4))
    made, _ = torchbcos.bcosify(classifier(net, 8), example=torch.rand(4, 3, 8, 8))
    torchbcos.save(made, tmp_path)
    back = torchbcos.load(tmp_path, device="cpu", deploy=False)
    assert same(back.model, made.model, torch.rand(2, 6, 8, 8), 0) and "Decode" in (tmp_path / "card.json").read_text()


@pytest.mark.parametrize(("source", "options"), [
    ("timm:test_resnet", OPTIONS["norm"]), ("timm:test_resnet", OPTIONS["all"]), ("timm:test_vit", OPTIONS["same"]),
    ("torchvision:squeezenet1_1", OPTIONS["norm"]),
])  # fmt: skip
def test_networks_of_libraries(
    source: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    library, _, name = source.partition(":")
    net = (timm.create_model if library == "timm" else vision.models.get_model)(name, num_classes=4)
    side = 160 if name == "test_vit" else 32
    with torch.no_grad():
        net.train()(torch.randn(8, 3, side, side))  # moments of the norms
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    given = torchbcos.load(
        source, weights=tmp_path / "weights.pth", device="cpu", deploy=False, preprocess={"resize": side, "crop": side, **MOMENTS}
    )
    made, report = torchbcos.bcosify(given, example=torch.rand(2, 3, side, side), **options)
    torchbcos.save(made, tmp_path / "model", program=False)
    back = torchbcos.load(tmp_path / "model", device="cpu", deploy=False)
    x = made.preprocess(torch.rand(2, 3, side, side))
    assert same(back.model, made.model, x, 0) and same(torchbcos.deploy(back.model), made.model, x, 1e-4)
    assert back.card.architecture == source and library in back.card.notes and report.residual < 1e-4
    if library == "timm":
        monkeypatch.setattr(from_timm, "_timm", lambda: (_ for _ in ()).throw(MissingPackageError("needs the package timm")))
        with pytest.raises(MissingPackageError, match="timm"):
            torchbcos.load(tmp_path / "model", device="cpu")


def test_networks_of_somebodys_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_to_convert.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_to_convert", raising=False)
    given = torchbcos.load("import:nets_to_convert:trained", allow_code=True, device="cpu", deploy=False,
                           preprocess={"resize": 16, "crop": 16, **MOMENTS})  # fmt: skip
    made, _ = torchbcos.bcosify(given, example=torch.rand(4, 3, 16, 16))
    torchbcos.save(made, "model", program=False)
    with pytest.raises(InputError, match="allow_code"):
        torchbcos.load("./model")
    back = torchbcos.load("./model", allow_code=True, device="cpu", deploy=False)
    assert same(back.model, made.model, torch.rand(2, 6, 16, 16), 0)
    network, _ = torchbcos.bcosify(given.model, example=torch.rand(4, 3, 16, 16), mean=MOMENTS["mean"], std=MOMENTS["std"])
    torchbcos.save(network, "network", builder="nets_to_convert:build", program=False)  # of a network alone
    again = torchbcos.load("./network", allow_code=True, device="cpu", deploy=False)
    assert same(again.model, network, torch.rand(2, 6, 16, 16), 0) and again.card.conversion is not None


def test_a_network_of_timm_alone_says_how_it_is_built(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=4)
    made, _ = torchbcos.bcosify(net, example=torch.rand(2, 3, 32, 32))  # which knows its moments
    torchbcos.save(made, tmp_path, program=False)
    back = torchbcos.load(tmp_path, device="cpu", deploy=False)
    assert back.card.architecture == "timm:test_resnet" and same(back.model, made, torch.rand(1, 6, 32, 32), 0)
    assert (back.transform.crop, back.transform.encoding, back.transform.mean) == (160, "add_inverse", None)
    with pytest.raises(InputError, match="load\\('timm:test_resnet'"):
        torchbcos.save(net, tmp_path / "given")


@pytest.mark.newest
def test_a_program_opens_where_the_code_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_that_go.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    given = torchbcos.load("import:nets_that_go:trained", allow_code=True, device="cpu", deploy=False,
                           preprocess={"resize": 16, "crop": 16, **MOMENTS})  # fmt: skip
    made, _ = torchbcos.bcosify(given, example=torch.rand(4, 3, 16, 16), b=1.5)
    torchbcos.save(made, "model", program=True)
    (tmp_path / "nets_that_go.py").unlink()
    monkeypatch.delitem(sys.modules, "nets_that_go")
    with pytest.raises(InputError, match="allow_code"):
        torchbcos.load("./model", device="cpu")
    back, pixels = torchbcos.load("./model", allow_code=True, device="cpu"), torch.rand(5, 3, 16, 16)
    wanted, found = made.explain(pixels), back.explain(pixels)
    assert type(back.model).__name__ == "Program" and back.card.conversion == made.card.conversion
    assert torch.allclose(found.weights, wanted.weights, atol=1e-5 * float(wanted.weights.abs().max())) and bool(
        found.complete.all()
    )
    assert [p[0].label for p in back.predict(pixels)] == [p[0].label for p in made.predict(pixels)]
    with (tmp_path / "model" / "program.pt2").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BcosError, match="program"):
        torchbcos.load("./model", allow_code=True, device="cpu")


def test_networks_of_create_model(plain: tuple[Path, nn.Module]) -> None:
    (folder, made), x = plain, torch.rand(2, 6, 16, 16)
    back = torchbcos.load(folder, device="cpu", deploy=False)
    assert same(back.model, made, x, 0) and same(torchbcos.load(folder, device="cpu").model, made, x)
    assert same(torchbcos.create_model(weights=folder).eval(), made, x, 0) and back.transform.encoding == "add_inverse"


# -- what else is done with networks -----------------------------------------------------------------------------------------


def test_copies_and_pickles_remember(converted: tuple[Classifier, Report]) -> None:
    model = converted[0].model
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torchbcos.deploy(model)):
        assert conversion_of(other) == conversion_of(model) is not None
        assert same(other, model, torch.rand(1, 6, 16, 16))


@pytest.mark.parametrize("training", [False, True])
def test_a_step_of_training(converted: tuple[Classifier, Report], training: bool) -> None:
    model = copy.deepcopy(converted[0].model).train(training)
    x, classes = torch.rand(4, 6, 16, 16), torch.tensor([0, 1, 2, 3])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), classes)
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    e = torchbcos.explain(model.eval(), x)
    assert losses[-1] < losses[0] and bool(e.complete.all()) and torch.allclose(e.share, torch.ones(()), atol=1e-5)


def test_the_graph_of_an_explanation(converted: tuple[Classifier, Report]) -> None:
    model, x = torchbcos.deploy(converted[0].model), torch.rand(2, 6, 16, 16)
    e = torchbcos.explain(model, x)
    found = torchbcos.explanation_graph(model, x)(x)
    assert torch.allclose(found[2], e.weights, atol=1e-5 * float(e.weights.abs().max())) and torch.equal(found[1], e.targets)


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_classifiers_that_are_none_to_convert(converted: tuple[Classifier, Report], pixels: Tensor) -> None:
    with pytest.raises(InputError, match="was converted already"):
        torchbcos.bcosify(converted[0])
    with pytest.raises(InputError, match="leave mean and std out"):
        torchbcos.bcosify(classifier(), mean=(0,) * 3)
    with pytest.raises(StateError, match=r"deploy=False"):
        torchbcos.bcosify(classifier(torchbcos.deploy(sequence())), example=pixels)
    with pytest.raises(InputError, match="from before its conversion"):
        torchbcos.save(Classifier(converted[0].model, classifier().card), "nowhere")


def test_examples(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (20, 30), (60 * i, 0, 255 if name == "a" else 0)).save(tmp_path / name / f"{i}.png")
    found = pixels_of(classifier(), tmp_path, limit=4)
    assert found.shape == (4, 3, 16, 16) and found[:, 2].mean((1, 2)).tolist() == [1, 1, 0, 0]  # of both folders
    with pytest.raises(InputError, match="positive integer"):
        pixels_of(classifier(), tmp_path, limit=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        pixels_of(classifier(), tmp_path / "empty")


@pytest.mark.parametrize(("step", "said"), [
    ({"path": "conv1", "kind": "conv", "settings": {"out_channels": 10**9}}, "does not know"),
    ({"path": "conv1", "kind": "conv", "settings": {"padding": [10**9, 1]}}, "which cannot be"),
    ({"path": "conv1", "kind": "eval", "settings": {}}, "no step"),
    ({"path": "conv1", "kind": "set", "settings": {"forward": 1}}, "does not know"),
    ({"path": "nowhere", "kind": "linear", "settings": {"b": 2.0}}, "no module"),
    ({"path": "bn1", "kind": "conv", "settings": {"b": 2.0, "bias": True, "padding": [1, 1]}}, "is not for"),
    ({"path": "bn1", "kind": "norm", "settings": {"kind": "batch", "features": 10**7}}, "is not for"),
    ({"path": "bn1", "kind": "folded", "settings": {"into": "conv1", "follows": ["forward"]}}, "is not for"),
    ({"path": "", "kind": "zero", "settings": {"names": ["training"]}}, "is not for"),
    ({"path": "conv1", "kind": "conv", "settings": {"b": float("inf")}}, "which cannot be|no number of JSON"),
    ({"path": "conv1", "kind": "conv", "settings": {"stem": {"mean": [0.1], "std": [0.1], "border": "mean"}}}, "is not for"),
])  # fmt: skip
def test_a_strangers_steps_are_looked_at(step: dict[str, Any], said: str, tmp_path: Path, plain: tuple[Path, nn.Module]) -> None:
    card = json.loads((plain[0] / "card.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((plain[0] / "model.safetensors").read_bytes())
    card["conversion"]["steps"] = [step]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=said) as found:
        torchbcos.load(tmp_path, device="cpu")
    assert len(str(found.value)) <= 500
