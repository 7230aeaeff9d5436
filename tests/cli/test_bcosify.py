"""`torchbcos bcosify`: a classifier of another library becomes a folder that every command takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos.cli.__main__ import app

timm = pytest.importorskip("timm")


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="torchbcos")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small network, pictures, and that network converted."""
    found = tmp_path_factory.mktemp("bcosify")
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3)
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 64, 64))  # moments of the norms
    torch.save(net.state_dict(), found / "weights.pth")
    (found / "photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (170, 180, 3), dtype=np.uint8)).save(found / "photos" / f"{i}.png")
    words = (
        "--weights",
        found / "weights.pth",
        "--example",
        found / "photos",
        "--limit",
        3,
        "--b",
        "stem=1.5",
        "--b",
        "classifier=2",
    )
    words = (*words, "--report", found / "report.html", "--device", "cpu", "--no-program")
    code, out, err = call("bcosify", "timm:test_resnet", "-o", found / "mine", *words)
    assert code == 0, err
    (found / "said.txt").write_text(out)
    return found


def test_what_is_said_and_written(place: Path) -> None:
    said = (place / "said.txt").read_text()
    assert "No constant is left." in said and "B-cos convolution" in said and "\nlayer1.0.conv1 " in said
    assert f"torchbcos explain PHOTO --model {place / 'mine'}" in said and "noise" not in said
    report = json.loads((place / "mine" / "report.json").read_text())
    card = json.loads((place / "mine" / "card.json").read_text())
    assert report["examples"] == 3 and report["settings"]["b"] == {"stem": 1.5, "classifier": 2.0} and report["residual"] < 1e-4
    assert card["architecture"] == "timm:test_resnet" and card["notes"]["timm"] == timm.__version__
    assert card["conversion"]["steps"] == report["steps"] and card["in_channels"] == 6
    assert {line["b"] for line in report["lines"]} >= {1.0, 1.5, 2.0}
    assert "<html" in (place / "report.html").read_text()


def test_the_folder_is_a_model(place: Path, tmp_path: Path) -> None:
    photo = place / "photos" / "0.png"
    code, out, err = call("predict", photo, "--model", place / "mine", "--device", "cpu", "--json")
    assert code == 0, err
    assert len(json.loads(out)[0]["predictions"]) == 3
    code, out, err = call("explain", photo, "--model", place / "mine", "--out", tmp_path, "--device", "cpu")
    assert code == 0 and "the pixels carry 100.0%" in out, (out, err)
    e = torchbcos.load(place / "mine", device="cpu").explain(photo)
    assert bool(e.complete.all()) and e.inputs.shape[1] == 6


def test_json(place: Path, tmp_path: Path) -> None:
    code, out, err = call("bcosify", place / "mine", "-o", tmp_path / "again", "--json")
    assert (code, json.loads(out)) == (2, {"error": err.removeprefix("torchbcos: ").strip()}) and "was converted already" in err
    code, out, err = call(
        "bcosify", "timm:test_resnet", "-o", tmp_path / "same", "--weights", place / "weights.pth", "--b", 1, "--biases", "keep",
        "--example", place / "photos" / "*.png", "--limit", 2, "--json", "--device", "cpu", "--no-program",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["kept"] < 1e-5 and found["model"] == str(tmp_path / "same") and set(found["kinds"]) == {"bias"}


@pytest.mark.parametrize(("words", "said"), [
    (("--b", "two"), "--b is a number, or a rule and a number"),
    (("--b", "2", "--b", "stem=1"), "one number for all layers, or a number for each rule"),
    (("--b", "stem=1", "--b", "stem=2"), "says twice"),
    (("--b", "nan"), "--b is a number"),
    (("--report", "nowhere/report.html"), "in a folder that exists"),
    (("--biases", "none"), "'norm', 'keep', 'drop'"),
    (("--example", "nowhere"), "nowhere"),
])  # fmt: skip
def test_wrong_requests(
    words: tuple[str, ...], said: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = call("bcosify", "timm:test_resnet", "--weights", place / "weights.pth", "-o", "mine", *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err, err
    assert not (tmp_path / "mine").exists()


def test_the_given_network_is_not_written_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = (place / "mine" / "card.json").read_bytes()
    for out in ("mine", place / "photos" / ".." / "mine"):
        code, _, err = call("bcosify", "mine", "-o", out)
        assert code == 2 and "which would be lost" in err and (place / "mine" / "card.json").read_bytes() == before


def test_a_folder_is_needed_and_code_is_allowed_by_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Missing option '--out'" in call("bcosify", "timm:test_resnet")[2]
    code, _, err = call("bcosify", "import:mynets:build", "-o", "mine")
    assert code == 2 and "--allow-code" in err


def test_a_converted_network_is_trained_on_and_stays_one(place: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    names = torchbcos.load(place / "mine", device="cpu").class_names
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    words = ["train", "finetune", "--data", tmp_path / "data", "--out", tmp_path / "run", "--set", f"pretrained={place / 'mine'}"]
    words += ["epochs=1", "image_size=40", "batch_size=4", "workers=0"]
    code, _, err = call(*words)
    assert code == 2 and "set freeze_epochs=0 and head_lr=1" in err
    code, _, err = call(*words, "freeze_epochs=0", "head_lr=1")
    assert code == 0, err
    before, after = (torchbcos.load(folder, device="cpu") for folder in (place / "mine", tmp_path / "run"))
    assert after.card.conversion == before.card.conversion and after.class_names == names
    assert after.card.digest != before.card.digest
    assert any(not torch.equal(a, b) for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True))
    e = after.explain(tmp_path / "data" / names[0] / "0.png")
    assert bool(e.complete.all()) and float(e.share.min()) == pytest.approx(1, abs=1e-4)
    (tmp_path / "data" / names[0]).rename(tmp_path / "data" / "another")
    code, _, err = call(*words[:4], "--out", tmp_path / "other", *words[6:], "freeze_epochs=0", "head_lr=1")
    assert code == 2 and "Give the network these classes, then convert it" in err
