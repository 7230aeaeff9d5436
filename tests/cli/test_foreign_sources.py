"""Classifiers of timm and torchvision on the command line, with a file of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.cli.test_help import call

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny network of three classes, and a photo of each."""
    found = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), found / "w.safetensors")
    for i, name in enumerate(("class 0", "class 1", "class 2")):
        (found / "data" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (90 * i, 40, 255 - 90 * i)).save(found / "data" / name / "a.png")
    (found / "cli_nets.py").write_text(
        "import timm\n\ndef build():\n    return timm.create_model('test_resnet', num_classes=3)\n"
    )
    return found


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(place)
    yield place
    sys.modules.pop("cli_nets", None)


TIMM = ("--model", "timm:test_resnet", "--weights", "w.safetensors")
PHOTO = "data/class 0/a.png"


def test_predict_explain_evaluate_export(here: Path, tmp_path: Path) -> None:
    code, out, err = call("predict", PHOTO, *TIMM, "--json")
    assert code == 0, err
    predicted = json.loads(out)[0]["predictions"]
    assert {p["label"] for p in predicted} == {"class 0", "class 1", "class 2"}
    assert sum(p["probability"] for p in predicted) == pytest.approx(1)
    code, out, err = call("explain", PHOTO, *TIMM, "--json", "--out", tmp_path)
    assert code == 0, err
    why = json.loads(out)[0]["explanations"][0]
    assert "preprocess.mean" in why["constants"] and why["value"] == pytest.approx(predicted[0]["logit"], rel=1e-5)
    total = why["contribution"] + sum(why["constants"].values())
    assert total == pytest.approx(why["value"], abs=1e-4) and Path(why["picture"]).is_file()
    code, out, err = call(
        "evaluate", "accuracy", "--data", "data", "--split", "all", *TIMM, "--workers", 0, "--json", "--device", "cpu"
    )
    assert code == 0 and json.loads(out)["pictures"] == 3, err
    code, out, _ = call("explain", PHOTO, *TIMM, "--out", tmp_path, "--products", "half")
    assert code == 0 and "test_resnet knows 3 classes: class 0, class 1, class 2" in out


def test_code_needs_a_word(here: Path) -> None:
    words = ("predict", PHOTO, "--model", "import:cli_nets:build", "--weights", "w.safetensors")
    code, _, err = call(*words)
    assert code == 2 and "the module 'cli_nets' would be imported" in err and "--allow-code" in err
    assert "cli_nets" not in sys.modules
    code, out, err = call(*words, "--allow-code")
    assert code == 0 and "class" in out, err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "timm:test_resnt", "--weights", "w.safetensors"), "Did you mean 'test_resnet'"),
        (("--model", "timm:test_resnet", "--weights", "nosuch.pth"), "There is no weights file"),
        (("--model", "timm:test_resnet", "--weights", ""), "the path is empty"),
        (("--model", "timm:test_vit", "--weights", "w.safetensors"), "does not belong to this network"),
        (("--weights", "w.safetensors"), "goes with the name of a network"),
        (("--model", "nosuch.pt2"), "--allow-code"),
    ],
)
def test_one_sentence(here: Path, words: tuple[str, ...], sentence: str) -> None:
    code, out, err = call("predict", PHOTO, *words)
    assert (code, out) == (2, "") and sentence in err and len(err.strip().splitlines()) == 1


def test_models_and_help_say_the_forms() -> None:
    _, _, err = call("models", "resnet18")
    assert "timm:NAME, torchvision:NAME, import:package.module:builder or FILE.pt2" in err
    for command in (("explain",), ("predict",), ("export",), ("evaluate", "accuracy")):
        _, out, _ = call(*command, "--help")
        assert "--weights" in out
    assert "--model torchvision:resnet18 --weights resnet18.pth" in " ".join(call("explain", "--help")[1].split())
