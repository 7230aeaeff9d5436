"""Imports go one way, at the top of files, and never to the official package; and the page of rooms says so."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "torchbcos"
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
ROOMS = {path.name for path in SRC.iterdir() if path.is_dir() and path.name != "__pycache__"}
LAZY = {"cli", "viewer", "service"}  # beside the door, the only rooms that may import inside functions


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    """import-linter with our contracts on the torchbcos in `source`."""
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", LINT, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(source)}, cwd=source, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the library's code, to plant faults in."""
    shutil.copytree(SRC, tmp_path / "torchbcos", ignore=shutil.ignore_patterns("__pycache__", "embedded", "cards"))
    return tmp_path


def test_contracts_are_kept() -> None:
    done = lint(SRC.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("functional/encode.py", "from torchbcos.nn import conv", "One direction BROKEN"),
        ("models/vgg.py", "from torchbcos import explanation", "One direction BROKEN"),
        ("_core/names.py", "import torchbcos.functional.conv", "One direction BROKEN"),
        ("kitchen/__init__.py", "", "One direction BROKEN"),
        ("testing/laws.py", "import bcos", "never used BROKEN"),
        ("nn/conv.py", "import torchvision", "no other BROKEN"),
        ("zoo/load.py", "def f():\n    import timm", "no other BROKEN"),
    ],
)
def test_contracts_can_be_broken(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / "torchbcos" / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stderr
    assert contract in " ".join(done.stdout.split()), done.stdout


def dodges(source: str) -> list[str]:
    """Imports that no contract sees, or that hide a cycle: inside functions, or through the door."""
    tree, found = ast.parse(source), []
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
            found += [f"line {node.lineno}: import in a function" for node in inner]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name == "torchbcos" for a in node.names):
            found.append(f"line {node.lineno}: import of the door")
        if isinstance(node, ast.ImportFrom) and node.module == "torchbcos":
            found += [f"line {node.lineno}: {a.name} through the door" for a in node.names if a.name not in ROOMS]
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(f"line {node.lineno}: relative import")
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_no_import_dodges_the_contracts(path: Path) -> None:
    if path != SRC / "__init__.py" and path.relative_to(SRC).parts[0] not in LAZY:
        assert dodges(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import torchbcos.zoo",
        "class A:\n    def f(self):\n        from torchbcos import zoo",
        "import torchbcos",
        "from torchbcos import explain",
        "from . import conv",
    ],
)
def test_dodging_is_seen(source: str) -> None:
    assert dodges(source)


def test_honest_imports_are_not_called_dodges() -> None:
    assert dodges("import torch\nfrom torchbcos import nn as bnn\nfrom torchbcos.nn import BcosLinear\n") == []


def floors(text: str) -> list[list[str]]:
    """The rooms of each floor, from the roof down, as the import law in pyproject has them."""
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return [re.findall(r"\w+", layer) for layer in contracts[0]["layers"]]


def misplaced(page: str, law: list[list[str]], rooms: set[str]) -> list[str]:
    """What ROOMS.md says otherwise than the import law, in words."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    lines = {row[0].strip("`"): row for row in rows}
    found = [f"no line for {room}" for room in sorted(rooms - {*lines})] + [
        f"no room {room}" for room in lines if room not in rooms
    ]
    expected = [room for floor in law for room in floor if room in lines]
    if list(lines) != expected:
        found.append("not in the order of the floors")
    for room, row in lines.items():
        here = next((i for i, floor in enumerate(law) if room in floor), len(law))
        below = {name for floor in law[here + 1 :] for name in floor} & rooms
        if len(row) != 4 or not row[1] or not row[2] or set(re.findall(r"`(\w+)`", row[3])) != below:
            found.append(f"{room}: what it may import, takes in or gives out")
    return found


LAW = (ROOT / "pyproject.toml").read_text("utf-8")
PAGE = (SRC / "ROOMS.md").read_text("utf-8")


def test_the_page_of_rooms_says_what_the_law_says() -> None:
    assert misplaced(PAGE, floors(LAW), ROOMS) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| `nn` |", "| nn |", "no line for nn"),
        ("| `nn` |", "| `kitchen` |", "no room kitchen"),
        ("`functional`, `kernels`, `_core` |\n| `pictures`", "`kernels`, `_core` |\n| `pictures`", "nn: what it may import"),
        ("`kernels`, `_core` |\n| `kernels`", "`kernels`, `nn`, `_core` |\n| `kernels`", "functional: what it may import"),
        ("| logits and targets; maps, masks and callables |", "| |", "metrics: what it may import"),
    ],
)
def test_a_wrong_page_of_rooms_is_seen(old: str, new: str, fault: str) -> None:
    assert PAGE.count(old) == 1
    assert any(text.startswith(fault) for text in misplaced(PAGE.replace(old, new), floors(LAW), ROOMS))


def test_a_page_in_another_order_is_seen() -> None:
    lines = PAGE.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| `nn` |"))
    lines[at], lines[at - 4] = lines[at - 4], lines[at]
    assert "not in the order of the floors" in misplaced("\n".join(lines), floors(LAW), ROOMS)
