"""The house: imports in one direction, a light door, small rooms. Each guard is shown able to fail."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torchbcos

SRC = Path(torchbcos.__file__).parent
ROOMS = [
    {"cli", "viewer", "service"},
    {"evaluation", "testing", "training"},
    {"zoo"},
    {"attribution", "conversion", "data", "deployment", "explanation", "metrics", "models"},
    {"nn", "rendering"},
    {"functional"},
    {"_core"},
]
LEVEL = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}


def breaches(room: str, source: str) -> list[str]:
    """Imports in `source` that a file of `room` may not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "torchbcos" else [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] in {"bcos", "torchvision", "timm", "lightning"}:
                found.append(name)
            if parts[0] == "torchbcos" and len(parts) > 1 and parts[1] in LEVEL:
                other = parts[1]
                if other != room and LEVEL[other] <= LEVEL[room]:
                    found.append(name)
    return found


def test_imports_go_one_way() -> None:
    for path in SRC.rglob("*.py"):
        room = path.relative_to(SRC).parts[0]
        if room in LEVEL:
            assert not breaches(room, path.read_text()), path


def test_the_import_law_can_fail() -> None:
    assert breaches("functional", "from torchbcos.nn import BcosLinear")
    assert breaches("models", "from torchbcos import explanation")
    assert breaches("nn", "import bcos")
    assert not breaches("models", "from torchbcos import nn")


def function_lengths(source: str) -> list[int]:
    """Lines of every function, its docstring left out."""
    lengths = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node, clean=False)
            lengths.append((node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0))
    return lengths


def test_rooms_are_small() -> None:
    lengths = []
    for path in SRC.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, path
        lengths += function_lengths(text)
    assert statistics.quantiles(lengths, n=10)[-1] <= 40
    assert function_lengths("def f():\n" + "    pass\n" * 60) == [61]


def test_the_door() -> None:
    code = "import sys, torchbcos; print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch','numpy','PIL','typer')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for name in torchbcos.__all__:
        assert getattr(torchbcos, name) is not None
    assert {"load", "save", "list_models", "create_model", "deploy", "recalibrate", "explain", "frozen", "Explanation",
            "nn", "functional", "BcosError"} <= set(torchbcos.__all__)  # fmt: skip


def test_no_host_names_of_registries() -> None:
    for path in [*SRC.rglob("*.py"), SRC.parents[1] / "Makefile", SRC.parents[1] / "pyproject.toml"]:
        if path.exists():
            assert not re.search(r"pypi\.org|pythonhosted|/opt/pypi", path.read_text()), path
