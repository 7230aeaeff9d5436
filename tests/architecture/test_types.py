"""No code asks a network what it is by probing: rooms above `models` rely on `Network`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "torchbcos"
ROOMS = ("models", "zoo", "training")
HEADS = {"fc", "classifier", "head", "linear_head"}


def guesses(source: str) -> list[str]:
    """What takes the place of a type: `hasattr`, `cast(Any, …)`, and lists of names that a classifier may have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called == "hasattr":
                found.append(f"line {node.lineno}: hasattr")
            if called == "cast" and ast.unparse(node.args[0]).strip("'\"").rpartition(".")[2] == "Any":
                found.append(f"line {node.lineno}: cast(Any, ...)")
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            words = {item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)}
            if len(words & HEADS) > 1:
                found.append(f"line {node.lineno}: names that a classifier may have")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_guesses(room: str) -> None:
    found = {path.name: guesses(path.read_text("utf-8")) for path in sorted((SRC / room).rglob("*.py"))}
    assert len(found) > 3
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "if hasattr(model, 'transformer'): pass",
        "import builtins\nbuiltins.hasattr(model, 'fc')",
        "x = cast(Any, model).in_channels",
        "x = typing.cast('typing.Any', model)",
        "for name in ('classifier', 'fc'): pass",
        "def f(key):\n    return key.startswith(('fc', 'classifier', 'linear_head'))",
    ],
)
def test_guessing_is_seen(source: str) -> None:
    assert guesses(source)


def test_honest_code_is_not_called_guessing() -> None:
    assert guesses("classifier_name = 'fc'\nx = cast(int, y)\nz: Any = getattr(y, 'a')\nw = ('fc', 'conv1')\n") == []
