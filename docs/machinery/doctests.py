"""Examples in docstrings as blocks of code: griffe reads `>>>` in prose as a quotation of a quotation."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

__all__ = ["Doctests", "fenced"]


def fenced(text: str) -> str:
    """A docstring whose examples stand in fences.

    >>> print(fenced("Two.\\n\\n>>> 1 + 1\\n2\\n\\nNo more."))  # doctest: +SKIP
    """
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


class Doctests(Extension):
    """Puts the examples of every docstring in fences."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
