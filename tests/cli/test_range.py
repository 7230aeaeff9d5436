"""`--range`: which stored numbers are black and white, and what is said where nobody said it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from torchbcos._core.errors import InputError
from torchbcos.cli.__main__ import app
from torchbcos.cli.common import parse_range


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
