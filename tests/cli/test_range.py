"""`--range`: which stored numbers are black and white, and what is said where nobody said it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.cli.__main__ import app
from torchbcos.cli.common import parse_range
from torchbcos.zoo import Classifier


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    eight = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(eight).save("eight.png")
    for name in ("twelve", "other"):
        Image.fromarray((eight.astype(np.uint32) * 4095 // 255).astype(np.uint16)).save(f"{name}.png")
    return tmp_path


def test_twelve_bits_in_sixteen_are_said_to_be_dark_once_and_read_right_with_a_range(folder: Path) -> None:
    runner = CliRunner()
    plain = json.loads(runner.invoke(app, ["predict", "eight.png", "--json"]).stdout)[0]
    done = runner.invoke(app, ["predict", "twelve.png", "other.png", "--json"])
    dark = json.loads(done.stdout)
    assert done.exit_code == 0
    assert re.fullmatch(
        r"torchbcos: 'twelve\.png' holds values from 0 to 4095, the darkest .* --range 0\.\.4095\. \(Said once\.\)\n", done.stderr
    )
    assert [record["warning"].startswith(f"'{record['file']}' holds values") for record in dark] == [True, True]
    assert dark[0]["predictions"] != plain["predictions"]
    for command in (["predict"], ["explain", "--out", "out"]):
        done = runner.invoke(app, [*command, "twelve.png", "--range", "0..4095", "--json"])
        (right,) = json.loads(done.stdout)
        assert (done.exit_code, done.stderr) == (0, "") and "warning" not in right
        assert right["predictions"] == plain["predictions"]


@pytest.mark.parametrize("text", ["0..", "4..2", "1:2", "0..1..2", "a..b", "0..inf", "", "0..0"])
def test_what_is_no_range(folder: Path, text: str) -> None:
    done = CliRunner().invoke(app, ["predict", "eight.png", f"--range={text}"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"torchbcos: --range is two numbers, black below white, as in 0..4095; got {text!r}.\n"
    with pytest.raises(InputError):
        parse_range(text)


def test_a_range_may_begin_below_zero(folder: Path) -> None:
    assert parse_range("-1000..400.5") == (-1000.0, 400.5) and parse_range(None) is None
    assert CliRunner().invoke(app, ["predict", "eight.png", "--range", "-1000..400"]).exit_code == 0


def test_numbers_outside_the_range_and_another_range_are_sentences_of_the_program(tmp_path: Path) -> None:
    """Raw lines of Python's warnings stood there, or nothing; run as users do: a test's runner hides them."""
    draw = np.random.default_rng(0)
    np.save(tmp_path / "high.npy", draw.integers(700, 4096, (3, 40, 40)).astype(np.uint16) * 16)
    np.save(tmp_path / "other.npy", draw.integers(700, 4096, (3, 40, 40)).astype(np.uint16) * 16)
    np.save(tmp_path / "dark.npy", draw.random((3, 40, 40)) / 100)
    clf = torchbcos.load(deploy=False, device="cpu")
    card = replace(clf.card, name="ranged", preprocess={**clf.card.preprocess, "value_range": [0, 65535]})
    torchbcos.save(Classifier(clf.model, card), tmp_path / "ranged")

    def call(*words: str) -> tuple[list[str], list[dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, "-m", "torchbcos", *words, "--json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return done.stderr.splitlines(), json.loads(done.stdout)

    said, records = call("predict", "high.npy", "other.npy", "--model", "ranged", "--range", "0..4095")
    wrong = (
        "This model was trained with the range from 0 to 65535, and here 0 to 4095 become 0 and 1: other numbers than it knows."
    )
    assert len(said) == 2 and said[0] == f"torchbcos: {wrong} (Said once.)"
    assert said[1].startswith("torchbcos: 'high.npy' holds values from 11") and "outside the range from 0 to 4095" in said[1]
    for record in records:
        assert record["warning"].startswith(f"{wrong} '{record['file']}' holds values from")
    said, (record,) = call("predict", "dark.npy")
    assert len(said) == 1 and said[0].startswith("torchbcos: 'dark.npy' holds values from") and "sixteenth" in said[0]
    assert record["warning"] in said[0]
    said, records = call("predict", "high.npy", "--model", "ranged")
    assert said == [] and "warning" not in records[0]
