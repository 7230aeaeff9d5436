"""What griffe, which reads sources and runs nothing, is told about ours.

Examples in docstrings become blocks of code: griffe takes `>>>` in prose for a quotation of a quotation. And the names of the
door, which `torchbcos/__init__.py` finds when they are first used, are written into it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from griffe import Alias, Extension, Module, Object

__all__ = ["Sources", "door", "fenced"]


def door(source: str) -> dict[str, str]:
    """The names of the door, each with the module that defines it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_DOOR":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise ValueError("torchbcos/__init__.py has no _DOOR any more: docs/machinery/sources.py must learn where its names are.")


def fenced(text: str) -> str:
    """A docstring whose examples stand in fences."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        if not inside and line.lstrip().startswith(">>>"):
            out += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            out.append("```")
            inside = False
        out.append(line)
    return "\n".join([*out, "```"] if inside else out)


class Sources(Extension):
    """Puts examples in fences, and names into the door."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_module(self, *, mod: Module, **kwargs: Any) -> None:
        """Called for each module, when its own members are known."""
        if mod.path == "torchbcos":
            for name, home in door(Path(str(mod.filepath)).read_text("utf-8")).items():
                mod.set_member(name, Alias(name, f"{home}.{name}", parent=mod))
