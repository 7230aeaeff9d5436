"""A measurement as JSON: numbers that JSON lacks, names that a terminal lacks, and files that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import torchbcos
from torchbcos._core.errors import InputError, StateError
from torchbcos.evaluation import measure_accuracy


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
    assert found["loss"] is None and found["pictures"] == 6

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
