"""`torchbcos calibrate`, and what `evaluate accuracy` says of calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos import nn as bnn
from torchbcos.cli.__main__ import app
from torchbcos.evaluation.calibration import _worse
from torchbcos.zoo import Classifier

NAMES = ("dark", "light")


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="torchbcos")
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey squares, one in four in the wrong folder."""
    place, random = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for part, count in (("train", 60), ("val", 60)):
        for k, name in enumerate(NAMES):
            (place / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 110, (8, 8)) + 140 * ((k + (i % 4 == 0)) % 2)
                Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(place / part / name / f"{part}{i}.png")
    return place


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two filters that is surer than it should be."""
    place = tmp_path_factory.mktemp("model") / "grey"
    conv = bnn.BcosConv2d(6, 2, 1, b=2.0)
    with torch.no_grad():
        for name, p in conv.named_parameters():
            assert name.endswith("weight")
            p.copy_(torch.tensor([[0, 0, 0, 1, 1, 1.0], [1, 1, 1, 0, 0, 0]])[:, :, None, None])
    network = torch.nn.Sequential(conv, bnn.GlobalAveragePool(), bnn.Logits(temperature=0.1))
    torchbcos.save(
        Classifier(network, class_names=NAMES, preprocess={"resize": None, "crop": None, "encoding": "add_inverse"}), place
    )
    return place


def test_a_model_is_calibrated_on_one_part_and_measured_on_another(data: Path, model: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--workers", 0, "--device", "cpu")
    code, text, err = call("calibrate", "--model", model, "--split", "train", "--out", tmp_path / "mine", *words)
    assert code == 0, err
    assert "If the network was trained on 'train', it is right more often there" in err
    card = torchbcos.load(tmp_path / "mine").card
    assert card.temperature is not None and card.temperature > 1
    assert f"temperature {card.temperature:g}, fitted on 120 pictures of" in text
    assert f"The model with it is in {tmp_path / 'mine'}." in text
    found = []
    for source in (model, tmp_path / "mine"):
        code, text, err = call("evaluate", "accuracy", "--model", source, *words, "--json")
        assert code == 0, err
        found.append(json.loads(text))
    before, after = found
    assert (before["temperature"], after["temperature"]) == (None, card.temperature)
    assert before["top1"] == after["top1"] and after["ece"] < before["ece"] / 2
    for one in found:
        bins = one["reliability"]
        assert len(bins) == 15 and sum(b["count"] for b in bins) == one["pictures"] == 120
        assert set(bins[0]) == {"low", "high", "confidence", "accuracy", "count"}
        gaps = sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["count"])
        assert one["ece"] == pytest.approx(100 * gaps / 120)
        assert {(b["confidence"], b["accuracy"]) for b in bins if not b["count"]} == {(None, None)}


def test_nothing_is_written_unless_told(data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, err = call("calibrate", "--model", model, "--data", data, "--split", "val", "--workers", 0, "--json")
    assert code == 0 and list(tmp_path.iterdir()) == []
    found = json.loads(text)
    assert found["split"] == "val" and found["out"] is None and found["was"] is None
    assert found["after"]["ece"] < found["before"]["ece"]
    assert "no honest judge of the calibration of this model any more" in err
    code, text, err = call("calibrate", "--model", model, "--data", data, "--workers", 0)
    assert code == 0 and "Nothing was written: --out FOLDER writes the model with it." in text
    assert "(selection)" in text and "Nobody knows what this model was trained on" in err


def test_the_diagram_on_the_terminal(data: Path, model: Path) -> None:
    code, text, _ = call("evaluate", "accuracy", "--model", model, "--data", data, "--workers", 0)
    lines = text.splitlines()
    assert code == 0 and lines[1].split() == ["sure", "to", "right", "said", "|", "right", "#", "answers"]
    assert len({len(line) for line in lines[1:]}) == 1 and sum(int(line.split()[-1]) for line in lines[2:]) == 120
    assert {line.count("|") for line in lines[2:]} == {1}


def test_diagrams_as_pictures(data: Path, model: Path, tmp_path: Path) -> None:
    words = ("--model", model, "--data", data, "--workers", 0)
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert call("evaluate", "accuracy", *words, "--figure", one)[0] == 0
    assert call("calibrate", *words, "--split", "val", "--figure", two)[0] == 0
    with Image.open(one) as a, Image.open(two) as b:
        assert a.height == b.height and b.width > 1.8 * a.width  # before and after
        assert len(a.convert("RGB").getcolors(2**20) or ()) > 10
    for name, message in (("a.txt", "must end with one of .png"), ("no/a.png", "There is no folder")):
        for command in (("evaluate", "accuracy"), ("calibrate",)):
            code, out, err = call(*command, *words, "--figure", tmp_path / name)
            assert (code, out) == (2, "") and message in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_wrong_requests(data: Path, model: Path, tmp_path: Path) -> None:
    for words, message in (
        (("--data", tmp_path / "none"), "torchbcos: "),
        (("--data", data, "--split", "report"), "No example of this data was held out as 'report'"),
        (("--data", data, "--weights", "best"), "torchbcos: "),
        ((), "Missing option '--data'; for example 'torchbcos calibrate --model runs/mine"),
    ):
        code, out, err = call("calibrate", "--model", model, *words)
        assert (code, out) == (2, "") and message in err and len(err) < 540 and "Traceback" not in err


def test_a_model_is_not_written_into_the_data_or_over_a_file(data: Path, model: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    (tmp_path / "file").touch()
    for out, said in ((data, "taken for a class"), (data / "mine", "taken for a class"), (tmp_path / "file", "is a file")):
        code, _, err = call("calibrate", "--model", model, "--data", data, "--out", out, "--workers", 0, "--device", "cpu")
        assert code == 2 and said in err
    assert sorted(data.rglob("*")) == before


def test_a_larger_error_is_not_passed_over() -> None:
    assert _worse({"ece": 5.0, "loss": 1.0}, {"ece": 4.0, "loss": 2.0}) == []
    assert _worse({"loss": 1.0, "ece": 5.0}, {"loss": 0.5, "ece": 5.0}) == []
    [said] = _worse({"ece": 5.0}, {"ece": 6.0})
    assert "larger with it than before" in said and "other pictures" in said
