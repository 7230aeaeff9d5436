"""A few spoiled files of each kind, and the watch over them shown able to fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.mutate import MUTATORS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
_ROOT = Path(__file__).parents[2]


def _read(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    run = subprocess.run([sys.executable, *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_spoiled_files_are_taken_or_refused_in_a_sentence(tmp_path: Path) -> None:
    read = _read(tmp_path, "-m", "tests.fuzz.reader", ",".join(MUTATORS), str(tmp_path), "1", "0", "40")
    assert len(read) == 40 * len(MUTATORS)
    assert [(one["kind"], one["number"], one["faults"]) for one in read if one["faults"]] == []


# what a reader could do, and the fault that the watch must name
_PLANTED = {
    "[][0]": "IndexError",
    "import pickle; pickle.loads(b'cos\\nsystem\\n.')": "watched: pickle.find_class",
    "open('executed', 'w').close()": "executed",
    "open(OUTSIDE, 'w').close()": "watched: open outside",
    "import subprocess; subprocess.run(['true'])": "watched: subprocess.Popen",
    "error = torchbcos._core.errors.InputError(''); error.args = ('a\\x1b[2Jb',); raise error": "control characters",
    "raise SystemExit": "SystemExit",
    "reader.MOST = 1; b'x' * 10 ** 9": "memory",
}

_SCRIPT = """
import json, sys
import torchbcos._core.errors
from tests.fuzz import reader
bodies, folder = json.loads(sys.argv[1]), sys.argv[2]
OUTSIDE = folder + "-outside"
sound = reader._READERS["npy"]
def planted(file):
    text = file.read_bytes()
    exec(text) if not text.startswith(b"\\x93NUMPY") else sound(file)
reader._READERS["npy"] = planted
reader.spoiled = lambda kind, number, seed: bodies[number].encode()
sys.argv = ["", "npy", folder, "0", "0", str(len(bodies))]
reader.main()
"""


def test_the_watch_sees_planted_faults(tmp_path: Path) -> None:
    read = _read(tmp_path, "-c", _SCRIPT, json.dumps(list(_PLANTED)), str(tmp_path / "inside"))
    assert len(read) == len(_PLANTED)
    for fault, one in zip(_PLANTED.values(), read, strict=True):
        assert any(text.startswith(fault) for text in one["faults"]), (fault, one)
