"""A network of one's own in a file: trained, gone on with, opened and refused on the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import torchbcos
from tests.cli.test_training import call
from tests.unit.training.data import squares
from torchbcos import training
from torchbcos.evaluation import open_model

NET = """
from pathlib import Path
from torch import nn
from torchbcos import nn as bnn

Path(__file__).with_suffix(".ran").touch()

class Net(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.first, self.norm = bnn.BcosConv2d(6, width, 3, padding=1), bnn.BatchNorm(width, centered=False)
        self.second, self.pool = bnn.BcosConv2d(width, num_classes, 3), bnn.GlobalAveragePool()

    def forward(self, x):
        return self.pool(self.second(self.norm(self.first(x))))

def picture_net(num_classes, width=4):
    return Net(num_classes, width)
"""
TRAIN = [
    "--set",
    "model=cli_own_net:picture_net",
    "--set",
    "options.width=6",
    "--set",
    "lr=0.01",
    "--device",
    "cpu",
    "--devices",
    1,
]
SMALL = ["--set", "epochs=1", "--set", "image_size=16", "--set", "test_size=16", "--set", "grow_from=0", "--set", "workers=0"]


def forget() -> None:
    """As in a new process."""
    sys.modules.pop("cli_own_net", None)
    Path("cli_own_net.ran").unlink(missing_ok=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with that file and some pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    Path("cli_own_net.py").write_text(NET)
    squares(tmp_path / "data")
    yield tmp_path
    sys.modules.pop("cli_own_net", None)


def test_the_whole_path(here: Path) -> None:
    """Nothing of the recipe's own network gets into the function's arguments; the run knows how to build it again."""
    for settings in (["--set", "max_steps=1"], []):  # begun, and gone on with
        code, out, err = call("train", "folder", "--data", "data", "--out", "run", *TRAIN, *SMALL, *settings)
        assert code == 0, err
        forget()
    assert "Going on in run from step 1" in out and "The model is in run/model" in out
    card = json.loads(Path("run/model/card.json").read_text())
    assert (card["architecture"], card["options"]) == ("import:cli_own_net:picture_net", {"width": 6})
    assert card["classes"] == ["blue", "green", "red"] and card["num_classes"] == 3 and card["in_channels"] == 6
    commands = (
        ["predict", "data/red/00.png", "--model", "run"],
        ["explain", "data/red/00.png", "--model", "run", "--out", "why"],
        ["evaluate", "accuracy", "--data", "data", "--model", "run", "--workers", "0"],
        ["evaluate", "accuracy", "--data", "data", "--model", "run", "--workers", "0", "--weights", "last"],
    )
    for words in commands:
        code, out, err = call(*words, "--device", "cpu")
        assert code == 2 and not out and err.count("\n") == 1, (words, err)
        assert "'cli_own_net' would be imported and its 'picture_net' called, with {'width': 6}" in err and "--allow-code" in err
        assert not Path("cli_own_net.ran").exists() and "cli_own_net" not in sys.modules
        code, out, err = call(*words, "--device", "cpu", "--allow-code")
        assert code == 0 and not err and Path("cli_own_net.ran").exists(), (words, err)
        forget()
    assert list(Path("why").rglob("*.png"))
    clf = torchbcos.load("run", device="cpu", allow_code=True, deploy=False)
    x = clf.preprocess("data/red/00.png")
    assert torch.equal(open_model("run", device="cpu", allow_code=True).fitted(None).model(x), torchbcos.load(
        "run/model", device="cpu", allow_code=True).model(x))  # fmt: skip
    assert float(clf.explain("data/red/00.png").residual.abs().max()) < 1e-4


def test_options_of_another_network_are_left_behind() -> None:
    """They are the library network's; typed ones, and those of the same function, stay."""
    base = training.find_recipe("folder")
    assert base.options
    own = training.with_settings(base, ["options.width=6", "model=mynets:signal"])
    assert own.options == {"width": 6} and base.changed(model="mynets:signal").options == {}
    assert base.changed(model="mynets:signal", options={"a": 1}).options == {"a": 1}
    assert training.with_settings(own, ["model=mynets:signal", "epochs=2"]).options == {"width": 6}
    assert training.with_settings(base, ["model=resnet18"]).options == base.options


def test_a_network_that_cannot_be_built_again_loses_no_training(here: Path) -> None:
    """Its width depends on how many were built before."""
    changed = NET.replace("Net(num_classes, width)", "Net(num_classes, len(SEEN) + 4)")
    Path("cli_own_net.py").write_text(f"SEEN = []\n{changed}".replace("super().__init__()", "super().__init__(); SEEN.append(1)"))
    code, out, err = call("train", "folder", "--data", "data", "--out", "run", *TRAIN[:2], *TRAIN[4:], *SMALL)
    assert code == 0, err
    assert "The weights alone are in run/model/weights.pt" in out and Path("run/model/weights.pt").is_file()
    forget()
    code, _, err = call("predict", "data/red/00.png", "--model", "run", "--allow-code")
    assert code == 2 and "the weights of a network of your own: build it" in err and "Classifier" in err


WRONG = """
import torch
from torch import nn
from torchbcos import nn as bnn

class Hides(bnn.Layer):  # taken at its word, and it names no constant
    def __init__(self, size, num_classes, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, size) / size)
        self.bias = nn.Parameter(torch.full((num_classes,), bias))

    def compute(self, x):
        return nn.functional.linear(x, self.weight, self.bias)

class Wrong(nn.Sequential):
    def __init__(self, num_classes, bias):
        super().__init__(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool(), Hides(4, num_classes, bias))

def wrong(num_classes, bias):
    return Wrong(num_classes, bias)

def ordinary(num_classes):
    return nn.Sequential(nn.Conv2d(6, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def refused(num_classes):
    return nn.Sequential(ordinary(num_classes), nn.LogSoftmax(1))
"""
FAST = ["--set", "max_steps=1", "--set", "lr=1e-6", "--device", "cpu", "--devices", 1, *SMALL]


def test_a_network_whose_explanation_does_not_add_up_is_never_silent(here: Path) -> None:
    """Training says it before the first step, each explanation says it, nothing is exported, and the exit code is no 0."""
    Path("cli_own_net.py").write_text(WRONG)
    wrong = ["--set", "model=cli_own_net:wrong", "--set", "options.bias=0.0005"]  # a few times the bound: explained, and said
    code, out, err = call("train", "folder", "--data", "data", "--out", "run", *wrong, *FAST)
    assert code == 0, err
    lines = out.splitlines()
    said = next(
        i for i, line in enumerate(lines) if line.startswith("This network trains, but explain does not explain it exactly")
    )
    assert "5.0e-04 of" in lines[said] and "is missing" in lines[said]
    assert said < next(i for i, line in enumerate(lines) if line.startswith("epoch 1"))
    model = ["--model", "run", "--allow-code", "--device", "cpu"]
    code, out, err = call("explain", "data/red/00.png", "data/red/01.png", *model, "--out", "why")
    assert code == 1 and err.count("\n") == 1 and "Pixels and constants do not add up to this logit: 5.0e-04" in err
    assert out.count("which pixels and constants miss by 0.0005: not explained exactly -> why") == 2 and "carry" not in out
    assert out.endswith("2 of 2 pictures done, 2 of them not explained exactly.\n") and len(list(Path("why").rglob("*.png"))) == 2
    code, out, err = call("explain", "data/red/00.png", *model, "--out", "why", "--json", "--range", "0..255")
    record = json.loads(out)[0]
    assert code == 1 and not record["explanations"][0]["complete"] and record["warning"] in err.replace(" (Said once.)", "")
    code, _, err = call("export", *model[:3], "--out", "net.pt2")
    assert code == 2 and "explanation does not add up" in err and not Path("net.pt2").exists()


def test_a_network_whose_explanation_is_far_off_is_refused(here: Path) -> None:
    Path("cli_own_net.py").write_text(WRONG)
    wrong = ["--set", "model=cli_own_net:wrong", "--set", "options.bias=0.5"]
    code, out, err = call("train", "folder", "--data", "data", "--out", "run", *wrong, *FAST)
    assert code == 0 and "explain does not explain it exactly: The explanation of image 0" in out and "0.5 of" in out, err
    for wanted, words in ((1, ["explain", "data/red/00.png", "--out", "why"]), (2, ["export", "--out", "net.pt2"])):
        code, out, err = call(*words, "--model", "run", "--allow-code")
        assert code == wanted and "does not add up: 0.5 of" in err, (out, err)
    assert not Path("net.pt2").exists() and not list(Path().rglob("why/**/*.png"))


def test_a_network_that_is_refused_trains_and_is_told_that_it_is_not_explained(here: Path) -> None:
    Path("cli_own_net.py").write_text(WRONG)
    for settings in ([], ["--set", "selection_share=0", "--set", "report_share=0", "--set", "ema_decay=0"]):
        out_folder = f"run{len(settings)}"
        code, out, err = call(
            "train", "folder", "--data", "data", "--out", out_folder, "--set", "model=cli_own_net:refused", *FAST, *settings
        )
        assert code == 0, err
        assert out.count("This network trains, but explain does not explain it exactly: ") == 1
        assert "'log_softmax' in '1' (LogSoftmax) is not linear in the input once its factors are held" in out
        forget()


def test_an_ordinary_network_trains_and_is_explained(here: Path) -> None:
    Path("cli_own_net.py").write_text(WRONG)
    code, out, err = call("train", "folder", "--data", "data", "--out", "run", "--set", "model=cli_own_net:ordinary", *FAST)
    assert code == 0 and "explain does not explain" not in out, err
    code, out, err = call("explain", "data/red/00.png", "--model", "run", "--allow-code", "--device", "cpu", "--out", "why")
    assert code == 0 and not err and "of which the pixels carry" in out, (out, err)


def test_the_line_says_what_stands_aside(here: Path) -> None:
    """The share of 100 % is of the logit without its fixed bias: the line says so, unless the bias is 0 or cancels."""
    torch.manual_seed(0)
    for bias, words in (
        (-2.2, r"logit -\d\.\d\d \(-2\.20 of it in every class\), of the rest the pixels carry 100\.0%"),
        (0.0, r"logit -?0\.\d\d, of which the pixels carry 100\.0%"),
    ):
        network = torch.nn.Sequential(
            torchbcos.nn.BcosConv2d(6, 3, 3), torchbcos.nn.GlobalAveragePool(), torchbcos.nn.Logits(bias=bias)
        )
        torchbcos.save(torchbcos.Classifier(network, class_names=("a", "b", "c")), "net")
        code, out, err = call("explain", "data/red/00.png", "--model", "net", "--device", "cpu", "--class", "a")
        assert code == 0 and re.search(f"  why a: {words}, residual ", out), (out, err)
        code, out, _ = call("explain", "data/red/00.png", "--model", "net", "--device", "cpu", "--class", "a", "--contrast", "b")
        assert code == 0 and re.search(r"difference -?0\.\d\d, of which the pixels carry 100\.0%, residual", out), out
