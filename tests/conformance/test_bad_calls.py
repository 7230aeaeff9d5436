"""Calls that cannot be right: each gets a sentence of the library's own, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchbcos

Network = torch.nn.Module


@pytest.fixture(scope="module")
def model() -> Network:
    torch.manual_seed(0)
    network: Network = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(network, [torch.rand(8, 6, 32, 32)])
    return network.eval()


@pytest.fixture(scope="module")
def clf() -> torchbcos.Classifier:
    classifier: torchbcos.Classifier = torchbcos.load("imagenette")
    return classifier


X = torch.rand(2, 6, 32, 32, generator=torch.Generator().manual_seed(0))
NAN, INF = X.clone(), X.clone()
NAN[0, 0, 0, 0], INF[1, 5, 31, 31] = torch.nan, torch.inf
PHOTO = X[0, :3]

EXPLAIN: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nan": ({"x": NAN}, ValueError, r"^The input has NaN or infinite values"),
    "infinity": ({"x": INF}, ValueError, r"^The input has NaN or infinite values"),
    "channels": ({"x": X[:, :3]}, ValueError, r"^Expected 6 channels, got 3 \(shape \(2, 3, 32, 32\)\)\. RGB is encoded first"),
    "uint8": ({"x": (X * 255).to(torch.uint8)}, ValueError, r"got torch\.uint8: use x\.float\(\) / 255, then add_inverse"),
    "empty batch": ({"x": X[:0]}, ValueError, r"^Expected at least one image .*got shape \(0, 6, 32, 32\)"),
    "no pixels": ({"x": X[..., :0]}, ValueError, r"^Expected at least one image .*got shape \(2, 6, 32, 0\)"),
    "no batch": ({"x": X[0]}, ValueError, r"\(N, 6, H, W\), got shape \(6, 32, 32\)"),
    "array": ({"x": X.numpy()}, TypeError, r"^explain needs an encoded tensor \(N, C, \*S\), not ndarray"),
    "half": ({"x": X.half()}, ValueError, r"is torch\.float16 on cpu, the model torch\.float32 on cpu: use x\.to\('cpu', torch"),
    "double": ({"x": X.double()}, ValueError, r"is torch\.float64 on cpu, the model torch\.float32"),
    "target": ({"targets": 3}, ValueError, r"^targets must be from 0 to 2 \(3 classes\), not 3\.$"),
    "negative target": ({"targets": [0, -1]}, ValueError, r"^targets must be from 0 to 2 \(3 classes\), not -1\.$"),
    "target name": ({"targets": "tench"}, ValueError, r"^targets must be an int, N ints or \(N, K\) ints, not 'tench'"),
    "target shape": ({"targets": [0, 1, 2]}, ValueError, r"^targets of shape \(3,\) do not fit 2 images: give one int, 2 ints"),
    "ragged": ({"targets": [[0], [1, 2]]}, ValueError, r"^targets must be an int"),
    "float target": ({"targets": 1.5}, ValueError, r"^targets must be integers, not torch\.float32"),
    "contrast": ({"targets": 0, "contrast": 9}, ValueError, r"^contrast must be from 0 to 2 \(3 classes\), not 9\.$"),
    "top_k": ({"top_k": 4}, ValueError, r"^top_k must be an integer from 1 to 3, not 4\.$"),
    "batch_size": ({"batch_size": 0}, ValueError, r"^batch_size must be a positive integer or None, not 0\.$"),
    "create_graph": ({"create_graph": "full"}, ValueError, r"^create_graph must be False, True or 'truncated', not 'full'"),
    "at": ({"targets": 0, "at": "layer1.0.conv9"}, ValueError, r"^The model has no module 'layer1\.0\.conv9'\. Did you mean"),
    "at number": ({"targets": 0, "at": 3}, ValueError, r"^The model has no module 3\."),
    "channel": ({"targets": 99, "at": "layer1"}, ValueError, r"^targets must be from 0 to 15 \(16 channels\), not 99\.$"),
    "position": ({"targets": 0, "at": "layer1", "position": (99, 0)}, ValueError, r"^position \(99, 0\) .* axes are \(32, 32\)"),
    "position axes": ({"targets": 0, "at": "layer1", "position": 3}, ValueError, r"^position \(3,\) .* axes are \(32, 32\)"),
    "model": ({"model": "resnet18"}, TypeError, r"^explain needs a torch\.nn\.Module, not str"),
    "foreign": ({"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LSTM(6144, 3))}, RuntimeError, r"output=0, say\.$"),
    "bent": ({"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LogSoftmax(1))}, RuntimeError, r"'log_softmax' in '1'"),
    "products": ({"products": "both"}, ValueError, r"^products must be None, 'half', 'first' or 'second', not 'both'"),
    "output": ({"output": "logits"}, ValueError, r"^output='logits': the network gives one Tensor, which has no entries"),
}


def fails(call: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(torchbcos.BcosError, match=text) as caught:
        call()
    assert isinstance(caught.value, kind) and len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EXPLAIN)
def test_explain(model: Network, name: str) -> None:
    arguments, kind, text = EXPLAIN[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fails(lambda: torchbcos.explain(**{"model": model, "x": X, **arguments}), kind, text)
    assert not model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules()) and all(p.grad is None for p in model.parameters())


def test_networks_refuse_what_explain_refuses(model: Network) -> None:
    for x, text in (
        (X[:, :3], "Expected 6 channels, got 3"),
        ((X * 255).to(torch.uint8), r"got torch\.uint8"),
        (X[:0], "got an empty batch"),
        (X[0], r"got shape \(6, 32, 32\)"),
    ):
        fails(lambda x=x: model(x), ValueError, text)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("images", "kind", "text"),
    [
        (PHOTO * torch.nan, ValueError, r"^image holds NaN or infinity"),
        (PHOTO * 255, ValueError, r"holds numbers from .* bring them to \[0, 1\].* Divide them by 255"),
        (X[0], ValueError, r"takes pictures of 3 channels, .* has shape \(6, 32, 32\)\. Is it encoded already\?"),
        (np.random.rand(3, 9, 3), ValueError, r"may have its channels first or last"),
        (np.full((4, 4, 3), -0.5), ValueError, r"holds numbers from -0\.5"),
        ([], ValueError, r"^images is empty: give at least one picture\.$"),
        (X[:0, :3], ValueError, r"^images is empty: give at least one picture\.$"),
        (None, TypeError, r"^images must be a path, a PIL image.* got NoneType"),
        ("absent.jpg", FileNotFoundError, r"^'absent\.jpg' does not exist\."),
        ("https://example.com/a.jpg", FileNotFoundError, r"Addresses are not read: download the file first"),
    ],
)
def test_pictures(clf: torchbcos.Classifier, images: object, kind: type[Exception], text: str) -> None:
    fails(lambda: clf.explain(images), kind, text)
    fails(lambda: clf.predict(images), kind, text)


def test_pictures_whose_form_is_known_are_taken(clf: torchbcos.Classifier) -> None:
    bytes_ = (PHOTO * 255).round().to(torch.uint8)
    whole = bytes_.float() / 255
    expected = [p.logit for p in clf.predict(whole)[0]]
    for same in (bytes_, whole.permute(1, 2, 0), whole.permute(1, 2, 0).double().numpy()):
        assert [p.logit for p in clf.predict(same)[0]] == pytest.approx(expected, abs=1e-5)


def test_classes(clf: torchbcos.Classifier) -> None:
    fails(lambda: clf.explain(PHOTO, 99), ValueError, r"^targets must be from 0 to 9 \(10 classes\), not 99\.$")
    fails(lambda: clf.explain(PHOTO, "tensh"), ValueError, r"^There is no class 'tensh' among 10\. Did you mean 'tench'\?$")
    fails(lambda: clf.explain(PHOTO, contrast="churhc"), ValueError, r"^There is no class 'churhc' .* Did you mean 'church'\?$")
    fails(lambda: clf.predict(PHOTO, top_k=0), ValueError, r"^top_k must be a positive integer, not 0\.$")
    fails(lambda: clf.predict(PHOTO, batch_size=0), ValueError, r"^batch_size must be a positive integer, not 0\.$")


def test_names_and_types(model: Network, tmp_path: Path) -> None:
    fails(lambda: torchbcos.load("resnt50"), ValueError, r"^There is no model 'resnt50': .* Did you mean 'resnet50'")
    fails(lambda: torchbcos.load(5), TypeError, r"^load needs a name or a folder, not int\.$")
    fails(lambda: torchbcos.load(device="gpu"), ValueError, r"^Unknown device 'gpu'\. Did you mean 'cpu'\?$")
    if not torch.backends.mps.is_available():
        fails(lambda: torchbcos.load(device="mps"), ValueError, r"^No MPS device .* use device='cpu'\.$")
    if not torch.cuda.is_available():
        fails(lambda: torchbcos.load(device="cuda"), ValueError, r"^No CUDA device .* use device='cpu'\.$")
    fails(lambda: torchbcos.create_model(5), TypeError, r"^create_model needs the name of a network, not int\.$")
    fails(lambda: torchbcos.create_model("resnet18", b="x"), ValueError, r"^b must be a real number of at least 1, not 'x'")
    fails(lambda: torchbcos.list_models(5), TypeError, r"^A pattern is a word such as 'resnet\*', not int\.$")
    fails(lambda: torchbcos.deploy("resnet18"), TypeError, r"^deploy needs a torch\.nn\.Module, not str")
    fails(lambda: torchbcos.recalibrate(model, []), ValueError, r"^recalibrate needs at least one batch")
    fails(lambda: torchbcos.save(torch.nn.Linear(2, 2), tmp_path), ValueError, r"^A folder cannot tell how this Linear is built")
    assert list(tmp_path.iterdir()) == []


def test_an_explanation_asked_for_what_it_has_not(model: Network, tmp_path: Path) -> None:
    e = torchbcos.explain(model, X, 0)
    fails(lambda: e[2], ValueError, r"^There are 2 explained images; 2 is not one of them\.$")
    fails(lambda: e.rgba(0, 1), ValueError, r"^There are 2 images with 1 targets each; there is no \(0, 1\)\.$")
    fails(lambda: e.save(tmp_path / "x.xyz"), ValueError, r"it must end with one of \.png")
    fails(lambda: e.save(tmp_path / "none" / "x.png"), FileNotFoundError, r"none' does not exist; make it before saving there")


def test_errors_of_the_model_itself_are_not_disguised(model: Network) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(f"no use for {len(x)} images")

    with pytest.raises(RuntimeError, match=r"^no use for 2 images$"):
        torchbcos.explain(Broken(), X, 0)
