"""The tutorial runs, top to bottom, in an empty folder, and every cell says what stands below it."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_transcripts import matches

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
RUN = ROOT / "docs" / "machinery" / "run.py"
IMAGE = "image/jpeg"


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells with code."""
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def said(cell: dict[str, Any]) -> str:
    """What a cell printed, without the signs of numbers: rounding has either."""
    text = "".join("".join(output.get("text", [])) for output in cell["outputs"])
    return re.sub(r"[-+](?=\d)", "", text)


def pictures(cell: dict[str, Any]) -> int:
    """How many pictures a cell showed."""
    return sum(IMAGE in output.get("data", {}) for output in cell["outputs"])


def run(notebook: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """All cells in one process that knows no home, no settings and no file but the photos and the package."""
    (folder / "home").mkdir()
    (folder / "here").mkdir()
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "OMP_NUM_THREADS")}
    places = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(folder / "home"), "TORCHBCOS_PHOTOS": str(ROOT / "docs" / "photos")}
    return subprocess.run(
        [sys.executable, str(RUN), str(notebook), "--out", str(folder / "ran.ipynb")],
        cwd=folder / "here", env=known | places, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the tutorial was run."""
    folder = tmp_path_factory.mktemp("tutorial")
    done = run(NOTEBOOK, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_cell_gives_what_stands_below_it(ran: Path) -> None:
    new, old = cells(ran / "ran.ipynb"), cells(NOTEBOOK)
    assert len(new) == len(old) > 8
    for now, stored in zip(new, old, strict=True):
        assert matches(said(now), said(stored)), f"run `make tutorial`:\n{said(now)}\n--- stored:\n{said(stored)}"
        assert pictures(now) == pictures(stored)
    assert sum(pictures(cell) for cell in old) >= 2


def test_what_it_promises_holds(ran: Path) -> None:
    text = "\n".join(said(cell) for cell in cells(ran / "ran.ipynb"))
    assert "school bus: " in text and "complete: True" in text
    by_hand, network = text.split("by hand ")[1].split("\n")[0].split(", the network ")
    assert float(by_hand) == pytest.approx(float(network), abs=1e-3)
    before, predicted, real = (float(part.split(" ")[-1]) for part in text.split("before")[1].split("\n")[0].split(";"))
    assert predicted < before and real < before  # the square spoke for the class
    assert "of the B-cos network's: 100%" in text and "0.bias" in text  # constants by name


def test_what_it_saves_can_be_opened(ran: Path) -> None:
    here = ran / "here"
    assert sorted(path.name for path in here.iterdir()) == ["why.npz", "why.png"]
    with np.load(here / "why.npz") as kept:
        assert np.allclose((kept["weights"] * kept["inputs"][:, None]).sum(2), kept["contributions"], atol=1e-5)


def test_it_is_small_and_has_words_before_every_cell() -> None:
    assert NOTEBOOK.stat().st_size < 600_000
    kinds = [cell["cell_type"] for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]]
    assert kinds[0] == "markdown" and ("code", "code") not in set(itertools.pairwise(kinds))


def test_a_tutorial_that_fails_is_noticed(tmp_path: Path) -> None:
    wrong = {"cells": [{"cell_type": "code", "source": ["print('one')\n", "assert 1 + 1 == 3"], "outputs": []}]}
    (tmp_path / "wrong.ipynb").write_text(json.dumps(wrong))
    done = run(tmp_path / "wrong.ipynb", tmp_path)
    assert done.returncode != 0 and "AssertionError" in done.stderr and not (tmp_path / "ran.ipynb").exists()
