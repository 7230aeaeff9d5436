"""Code that was changed since a model was saved is found; other dtypes, twins and machines do not alarm."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from tests.unit.zoo import own_nets
from torchbcos import Classifier
from torchbcos import nn as bnn
from torchbcos._core.errors import WeightsError
from torchbcos.pictures import Preprocess
from torchbcos.zoo.remembered import deviation, remember_outputs

CODE = """
import torch
from torch import nn
from torchbcos import nn as bnn

class Net(nn.Module):
    def __init__(self, num_classes=2, in_channels=6, axes=2):
        super().__init__()
        conv = {1: bnn.BcosConv1d, 2: bnn.BcosConv2d, 3: bnn.BcosConv3d}[axes]
        self.stem, self.conv = conv(in_channels, 4, 3, padding=1), conv(4, 4, 3, padding=1)
        self.head, self.pool = conv(4, num_classes, 1), bnn.GlobalAveragePool()

    def forward(self, x):
        x = self.stem(x)
        return self.pool(self.head(x + self.conv(x)))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write(CODE)
    yield tmp_path
    sys.modules.pop("my_remembered_net", None)


def write(code: str) -> None:
    Path("my_remembered_net.py").write_text(code)
    sys.modules.pop("my_remembered_net", None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    sys.path.insert(0, ".")
    importlib.import_module("my_remembered_net")
    sys.path.remove(".")
    sys.dont_write_bytecode = before


def net(**options: Any) -> Any:
    torch.manual_seed(0)
    return sys.modules["my_remembered_net"].Net(**options).eval()


def save(network: nn.Module, raw: int = 3, axes: int = 2) -> None:
    prepare = Preprocess(raw_channels=raw, axes=axes)
    builder, options = "my_remembered_net:Net", {"axes": axes} if axes != 2 else {}
    torchbcos.save(Classifier(network, preprocess=prepare, builder=builder, options=options), "model")


CHANGES = [
    ("x + self.conv(x)", "0.5 * x + self.conv(x)"), ("x = self.stem(x)", "x = self.stem(x * 1.01)"),
    ("self.head(x + self.conv(x))", "self.head(self.conv(x))"), ("return self.pool(", "return -self.pool("),
    ("4, 3, padding=1), conv", "4, 3, padding=1, b=1.5), conv"), ("self.pool(self.head(", "self.pool(self.gone("),
    ("return self.pool(self.head(x + self.conv(x)))", "return self.pool(self.head(x + self.conv(x)))[:, :1]"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_code_that_was_changed_since_is_refused(old: str, new: str, folder: Path) -> None:
    save(net())
    torchbcos.load("model", allow_code=True)
    assert old in CODE
    write(CODE.replace(old, new))
    said = "'model': my_remembered_net:Net gives other numbers than when this model was saved .*: its code was changed since"
    with pytest.raises(WeightsError, match=said) as caught:
        torchbcos.load("model", allow_code=True)
    assert len(str(caught.value)) <= 500
    card = json.loads(Path("model/card.json").read_text("utf-8"))
    del card["probe"]  # as of before, and as the sentence says
    Path("model/card.json").write_text(json.dumps(card), "utf-8")
    torchbcos.load("model", allow_code=True, deploy=False)


@pytest.mark.parametrize(("raw", "axes"), [(2, 1), (1, 3)])
def test_signals_and_volumes_too(raw: int, axes: int, folder: Path) -> None:
    save(net(in_channels=2 * raw, axes=axes), raw, axes)
    torchbcos.load("model", allow_code=True)
    write(CODE.replace("x + self.conv", "x - self.conv"))
    with pytest.raises(WeightsError, match="its code was changed since"):
        torchbcos.load("model", allow_code=True)


def half(network: nn.Module) -> nn.Module:
    return network.half()


def brain(network: nn.Module) -> nn.Module:
    return network.bfloat16()


def precise(network: nn.Module) -> nn.Module:
    return network.double()


def twin(network: nn.Module) -> nn.Module:
    return torchbcos.deploy(network)


@pytest.mark.parametrize("change", [half, brain, precise, twin])
def test_other_numbers_of_the_same_code_do_not_alarm(change: Callable[[Any], nn.Module], folder: Path) -> None:
    save(change(net()))
    write(CODE.replace("x = self.stem(x)", "# the first\n        x = self.stem(x) + 0"))  # an edit that changes nothing
    clf = torchbcos.load("model", allow_code=True)
    assert clf.card.probe is not None
    torchbcos.save(clf, "again")
    torchbcos.load("again", allow_code=True)
    write(CODE.replace("x + self.conv(x)", "0.9 * x + self.conv(x)"))
    with pytest.raises(WeightsError, match="its code was changed since"):
        torchbcos.load("model", allow_code=True)


def test_weights_that_are_written_again_in_half_do_not_alarm(folder: Path) -> None:
    """By a converter, beside the card of before; and what a GPU or another release adds in another order."""
    network = net()
    before = torch.get_rng_state()
    probe = remember_outputs(network, 6, (16, 16))
    assert probe is not None and deviation(network, 6, probe) is None
    assert torch.equal(before, torch.get_rng_state())
    for other in (network.double(), network.half(), network.bfloat16()):
        assert deviation(other, 6, probe) is None
    network = net()
    torch.set_float32_matmul_precision("medium")
    try:
        assert deviation(network, 6, probe) is None and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    near, far = ({**probe, "logits": [v * (1 + change) for v in probe["logits"]]} for change in (3e-4, 3e-3))
    assert deviation(network, 6, near) is None and "logit" in str(deviation(network, 6, far))


class Random(own_nets.Fixed):
    """Draws in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, training=True))


class Counting(own_nets.Fixed):
    """Gives something else each time."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class Jumping(own_nets.Fixed):
    """Gives something else for almost the same input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 1e7) % 2)


class Endless(own_nets.Fixed):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class Pixels(own_nets.Fixed):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("kind", [Random, Counting, Jumping, Endless, Pixels])
def test_what_would_not_be_found_again_is_not_remembered(kind: type[nn.Module]) -> None:
    assert remember_outputs(kind(), 6, (8, 8)) is None
    assert remember_outputs(own_nets.Fixed(), 6, (8, 8)) is not None  # the check above can fail


def test_only_cards_of_somebodys_code_have_it(tmp_path: Path) -> None:
    layers = nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool())
    torchbcos.save(layers, tmp_path / "a")
    torchbcos.save(torchbcos.create_model("cifar10_resnet20", num_classes=2, width_factor=0.25), tmp_path / "b")
    assert not any("probe" in json.loads((tmp_path / name / "card.json").read_text("utf-8")) for name in "ab")
    assert remember_outputs(layers, 6, (4096, 4096)) is None  # too large an input
