"""The command line as a newcomer meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KEYS = {"index", "label", "value", "contribution", "constants", "aside", "residual", "complete", "share", "picture"}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "torchbcos.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("ä b.jpg", "sub/c.png"):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "in" / name)
    return tmp_path


def test_explain_a_folder_with_a_broken_file(folder: Path) -> None:
    (folder / "in" / "text.jpg").write_text("not a picture")
    done = run("explain", "in", "--json", "--top-k", "2", cwd=folder)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "text.jpg" in done.stderr and "Traceback" not in done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 3 and [r["error"] is None for r in records].count(True) == 2
    good = next(r for r in records if r["error"] is None)
    assert {"index", "label", "probability", "logit"} == set(good["predictions"][0])
    first = good["explanations"][0]
    assert set(first) == KEYS
    assert abs(first["residual"]) <= 1e-4
    with Image.open(folder / first["picture"]) as picture:
        assert picture.size[0] > 500
    assert len(list((folder / "explanations").rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("explain", "absent.jpg"), 2, "absent.jpg"),
        (("explain", "in", "--class", "tensh"), 2, "Did you mean 'tench'"),
        (("explain", "in", "--model", "resnet5000"), 2, "no model 'resnet5000'"),
        (("explain", "in", "--top-k", "1001"), 2, "more than the 1000 classes"),
        (("models", "nothing*"), 2, "no model matches"),
    ],
)
def test_wrong_requests_get_one_sentence(folder: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = run(*arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1 and text in done.stderr


def test_predict_and_models(folder: Path) -> None:
    done = run("predict", "in", "--json", cwd=folder)
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 2
    names = [r["name"] for r in json.loads(run("models", "resnet*", "--json", cwd=folder).stdout)]
    assert names[:2] == ["resnet18", "resnet34"]


def test_unwritable_output(folder: Path) -> None:
    (folder / "out").write_text("a file, not a folder")
    done = run("explain", "in", "--out", "out", cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['torchbcos', '--help']\n"
        "from torchbcos.cli.__main__ import main\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0 and "explain" in done.stdout, done.stderr


def test_the_import_guard_can_fail() -> None:
    done = subprocess.run([sys.executable, "-c", "import torch, sys; assert 'torch' not in sys.modules"], check=False,
                          capture_output=True)  # fmt: skip
    assert done.returncode != 0
