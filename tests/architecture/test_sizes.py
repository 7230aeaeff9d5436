"""Rooms are small: a newcomer reads any file in one sitting."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Mapping
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "torchbcos"
FILE, FUNCTION = 400, 30  # lines; of the functions nine tenths


def functions(source: str) -> list[int]:
    """Lines of every function, docstring included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(n.end_lineno or 0) - n.lineno + 1 for n in ast.walk(ast.parse(source)) if isinstance(n, kinds)]


def too_large(files: Mapping[str, str]) -> list[str]:
    """What breaks the limits, in words."""
    found = [f"{name} has {n} lines" for name, text in files.items() if (n := text.count("\n")) > FILE]
    lengths = [n for text in files.values() for n in functions(text)]
    if len(lengths) > 1 and (p90 := statistics.quantiles(lengths, n=10, method="inclusive")[-1]) > FUNCTION:
        found.append(f"nine tenths of the functions have up to {p90:.0f} lines")
    return found


def test_files_and_functions_are_small() -> None:
    files = {str(path.relative_to(SRC)): path.read_text("utf-8") for path in SRC.rglob("*.py")}
    assert len(files) > 30
    assert too_large(files) == []


def test_size_is_measured() -> None:
    short, long = "def f():\n    pass\n", "def f():\n" + "    pass\n" * 60
    assert functions(short + long) == [2, 61]
    assert too_large({"a.py": short * 20 + long}) == []
    assert too_large({"a.py": ("def f():\n" + "    pass\n" * 29) * 10}) == []
    assert too_large({"a.py": ("def f():\n" + "    pass\n" * 30) * 10}) == ["nine tenths of the functions have up to 31 lines"]
    assert too_large({"a.py": short + long}) == ["nine tenths of the functions have up to 55 lines"]
    assert too_large({"a.py": "\n" * 401}) == ["a.py has 401 lines"]
