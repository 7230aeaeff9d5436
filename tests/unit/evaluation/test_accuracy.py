"""Numbers as counted by hand; a measurement as JSON whatever its numbers and names; and files that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import InputError, StateError
from torchbcos.evaluation import measure_accuracy
from torchbcos.pictures import Preprocess, samples
from torchbcos.zoo import Card, Classifier


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for k, name in enumerate(torchbcos.load().class_names[:2]):
        (tmp_path / "dätä" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (80 * k, 9 * i, 0)).save(tmp_path / "dätä" / name / f"{i}.png")
    return tmp_path / "dätä"


def test_numbers_of_a_broken_network_are_null(data: Path, tmp_path: Path) -> None:
    clf = torchbcos.load(deploy=False, device="cpu")
    with torch.no_grad():
        next(p for p in reversed(list(clf.model.parameters())) if p.dim() > 1)[0] = float("nan")
    found = measure_accuracy(clf, data, workers=0, out=tmp_path / "a.json")
    assert found["pictures"] == found["not_finite"] == 6
    assert [found[name] for name in ("top1", "top5", "ece", "loss")] == [None] * 4  # the highest of NaN is any of them

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=refuse) == found


def test_json_of_names_that_the_stream_lacks(data: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torchbcos.cli.__main__",
        "evaluate",
        "accuracy",
        "--data",
        str(data),
        "--json",
        "--workers",
        "0",
    ]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True)
    assert json.loads(done.stdout)["data"] == str(data)


def test_nothing_can_be_read(data: Path) -> None:
    for file in data.rglob("*.png"):
        file.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"None of the 6 pictures can be read; the first: .*0\.png"):
        measure_accuracy(torchbcos.load(device="cpu"), data, workers=0, on_error="skip")


def test_a_result_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"Could not write .*a\.json"):
        measure_accuracy(torchbcos.load(device="cpu"), data, workers=0, out=tmp_path / "file" / "a.json")


COLOURS = ("blue", "green", "red")  # of the folders, in their order
CHANNELS = ("red", "green", "blue")  # of the classifier, in its own


class Channel(nn.Module):
    """Each class's logit is ten times the mean of its channel."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x[:, :3].mean((2, 3))


def classifier(classes: tuple[str, ...] = CHANNELS) -> Classifier:
    preprocess = Preprocess(resize=None, crop=None).to_dict()
    return Classifier(
        Channel().eval(), Card(name="colours", architecture="none", classes=classes, num_classes=3, preprocess=preprocess)
    )


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Four pictures of each colour; one of the green ones is red."""
    for name in COLOURS:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[..., CHANNELS.index("red" if (name, i) == ("green", 0) else name)] = 255
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def test_every_number_is_as_counted(colours: Path) -> None:
    found = measure_accuracy(classifier(), colours, batch_size=5, workers=0)
    chance = 1 / (1 + np.exp(-10))
    share = np.array([chance, 0.5, 0.5]) / (chance + 1)
    assert (found["model"], found["split"], found["pictures"], found["unreadable"]) == ("colours", "all", 12, [])
    assert found["top1"] == pytest.approx(100 * 11 / 12) and "top5" not in found
    assert found["loss"] == pytest.approx(-(11 * np.log(share[0]) + np.log(share[1])) / 12, rel=1e-5)
    assert found["ece"] == pytest.approx(100 * (chance - 11 / 12), rel=1e-5)


def test_classes_are_matched_by_name_not_by_place(colours: Path) -> None:
    """The same network with its classes called otherwise is wrong on all but the colour whose name stays."""
    found = measure_accuracy(classifier(("blue", "green", "red")), colours, workers=0)
    assert found["top1"] == pytest.approx(100 * 3 / 12)
    with pytest.raises(InputError, match=r"knows no class 'blue', the data has it \(1 such\)\. Did you mean 'blues'"):
        measure_accuracy(classifier(("red", "green", "blues")), colours, workers=0)


def test_what_cannot_be_read_is_named_or_stops(colours: Path) -> None:
    (colours / "red" / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2\.png"):
        measure_accuracy(classifier(), colours, workers=0)
    found = measure_accuracy(classifier(), colours, workers=0, on_error="skip")
    assert found["pictures"] == 11 and [Path(name).as_posix() for name in found["unreadable"]] == ["red/2.png"]
    assert found["top1"] == pytest.approx(100 * 10 / 11)


def test_a_range_of_numbers_is_read_and_part_of_what_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_warned", set())
    clf = torchbcos.load(deploy=False, device="cpu")
    draw = np.random.default_rng(0)
    for name in clf.class_names[:2]:
        for kind in ("eight", "twelve"):
            (tmp_path / kind / name).mkdir(parents=True)
        for i in range(3):
            eight = draw.integers(0, 256, (30, 30), np.uint8)
            Image.fromarray(eight).save(tmp_path / "eight" / name / f"{i}.png")
            Image.fromarray((eight.astype(np.uint32) * 4095 // 255).astype(np.uint16)).save(
                tmp_path / "twelve" / name / f"{i}.png"
            )
    wanted = measure_accuracy(clf, tmp_path / "eight", workers=0)
    found = measure_accuracy(clf, tmp_path / "twelve", workers=0, value_range=(0, 4095), out=tmp_path / "a.json")
    assert {**found, "data": ""} == {**wanted, "data": ""}
    dark = measure_accuracy(clf, tmp_path / "twelve", workers=0, out=tmp_path / "a.json")  # warnings are errors here
    assert dark["loss"] != found["loss"] and found["notes"] == []
    assert len(dark["notes"]) == 1 and "0.png' holds values from" in dark["notes"][0]
    assert "the darkest sixteenth of the range from 0 to 65535" in dark["notes"][0]
    card = replace(clf.card, preprocess={**clf.card.preprocess, "value_range": [0, 4095]})
    ranged = measure_accuracy(Classifier(clf.model, card), tmp_path / "twelve", workers=0)
    assert (ranged["loss"], ranged["notes"]) == (found["loss"], [])  # a note on darkness was told of what the card's range mends
    with pytest.raises(InputError, match="value_range must be two finite numbers"):
        measure_accuracy(clf, tmp_path / "twelve", workers=0, value_range=(1, 0))


def test_another_range_than_the_cards_is_a_note(tmp_path: Path) -> None:
    clf = torchbcos.load(deploy=False, device="cpu")
    card = replace(clf.card, preprocess={**clf.card.preprocess, "value_range": [0, 4095]})
    for i, name in enumerate(clf.class_names[:2]):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.random.default_rng(i).integers(0, 4096, (3, 40, 40)).astype(np.uint16))
    assert measure_accuracy(Classifier(clf.model, card), tmp_path, workers=0)["notes"] == []  # warnings are errors here
    other, outside = measure_accuracy(Classifier(clf.model, card), tmp_path, workers=0, value_range=(5000, 6000))["notes"]
    assert other.startswith("This model was trained with the range from 0 to 4095, and here 5000 to 6000 become 0 and 1")
    assert "a.npy' holds values from" in outside and "100 % of them lie outside the range from 5000 to 6000" in outside
