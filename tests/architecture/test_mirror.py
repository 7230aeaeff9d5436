"""tests/unit mirrors the package: the tests of torchbcos/ROOM/FILE.py are in tests/unit/ROOM/test_FILE.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC, UNIT = ROOT / "src" / "torchbcos", ROOT / "tests" / "unit"
# Rooms that are tested as a whole, and where
ELSEWHERE = {
    "cli": "tests/cli: a command is tested as a process is, by what it prints and leaves behind",
    "testing": "tests/laws/test_testing.py, beside the laws that it offers to others",
}
# Subjects that cross the files of a room
SUBJECTS = {
    "explanation/test_watched_errors.py": "what a network raises while it is watched",
    "kinds/test_referees.py": "whole ordinary networks against a twin without autograd and without rules",
    "kinds/test_architectures.py": "architectures of other libraries, which need every rule",
    "kinds/test_wrappers.py": "what stands around ordinary networks, and how they are written",
    "kinds/test_wrappers_in_place.py": "networks that edit tensors in place",
    "kinds/test_wrappers_around.py": "hooks, modes, threads, training and compiled code around ordinary networks",
    "kinds/test_wrappers_derivatives.py": "derivatives, inner layers and recorded graphs of ordinary networks",
    "kinds/test_silence.py": "planted operations: no explanation is silently another one's",
    "models/test_families.py": "what holds for every registered family",
    "models/test_plain.py": "plain twins of all families",
    "nn/test_sync.py": "two processes: norms and the statistics that they share",
    "pictures/test_broken.py": "damaged files: read and containers",
    "pictures/test_inputs.py": "what a caller may hand in: read, find and modes",
    "training/test_interrupts.py": "processes that are interrupted and killed: the loop, its state and the run's folder",
}
# Not yet in its place; nothing may be added here
MISPLACED = {"nn/test_layers.py", "training/test_edges.py", "training/test_runs.py"}


def faults(package: Iterable[str], tests: Iterable[str]) -> list[str]:
    """What has no counterpart, in words; both are paths of Python files, below the package and below tests/unit."""
    modules = {path for path in package if "/" in path}
    rooms = {path.split("/")[0] for path in modules}
    found, with_tests = [], set()
    for path in sorted(tests):
        folder, _, name = path.rpartition("/")
        room = folder.split("/")[0]
        if not name.startswith("test_"):
            continue
        with_tests.add(room)
        if not folder:
            found.append(f"tests/unit/{path} is in no room")
        elif room not in rooms:
            found.append(f"tests/unit/{path}: the package has no room {room}")
        elif path not in {*SUBJECTS, *MISPLACED} and f"{folder}/{name.removeprefix('test_').lstrip('_')}" not in {
            f"{m.rpartition('/')[0]}/{m.rpartition('/')[2].lstrip('_')}" for m in modules
        }:
            found.append(f"tests/unit/{path}: the package has no {folder}/{name.removeprefix('test_')}")
    return found + [f"the room {room} has no tests" for room in sorted(rooms - with_tests - {*ELSEWHERE})]


def files(folder: Path) -> list[str]:
    """Python files below a folder."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if "__pycache__" not in path.parts]


def test_every_test_has_its_counterpart() -> None:
    assert len(files(SRC)) > 80 and len(files(UNIT)) > 30
    assert faults(files(SRC), files(UNIT)) == []


def test_what_is_excepted_is_there() -> None:
    assert [path for path in SUBJECTS if not (UNIT / path).is_file()] == []
    assert [room for room in ELSEWHERE if not (SRC / room).is_dir() or (UNIT / room).is_dir()] == []


PACKAGE = ["__init__.py", "a/__init__.py", "a/one.py", "a/_two.py", "a/c/three.py", "b/four.py"]
TESTS = ["a/test_one.py", "a/test_two.py", "a/helper.py", "a/c/test_three.py", "b/test_four.py"]


def test_a_mirror_has_no_faults() -> None:
    assert faults(PACKAGE, TESTS) == []


@pytest.mark.parametrize(
    ("added", "gone", "fault"),
    [
        ("test_five.py", "", "tests/unit/test_five.py is in no room"),
        ("z/test_one.py", "", "tests/unit/z/test_one.py: the package has no room z"),
        ("b/test_one.py", "", "tests/unit/b/test_one.py: the package has no b/one.py"),
        ("a/test_three.py", "", "tests/unit/a/test_three.py: the package has no a/three.py"),
        ("b/helper.py", "b/test_four.py", "the room b has no tests"),
    ],
)
def test_faults_are_seen(added: str, gone: str, fault: str) -> None:
    assert faults(PACKAGE, [*(path for path in TESTS if path != gone), added]) == [fault]
