"""The table of rules as text: docs/explanation/kinds.md prints it, so that the page says what the code does."""

from __future__ import annotations

import inspect
import sys

from torchbcos.kinds.rules.linear import atom
from torchbcos.kinds.rules.reading import unknown
from torchbcos.kinds.table import TABLE, Row

__all__ = ["page_with_rules", "rules_text"]

_BEGIN = "<!-- printed from torchbcos.kinds.TABLE by `make docs` -->"
_END = "<!-- end of the table -->"
# rules that stand in no row: what they are for is no list of names
_BESIDE = (
    Row(atom, "every layer of torchbcos.nn, every function of torchbcos.functional"),
    Row(unknown, "every other operation of torch, of torch.library, of anybody"),
)


def rules_text() -> str:
    """Every rule with its operations, a table for each file of rules, in Markdown.

    >>> print(rules_text().splitlines()[0])
    **Linear maps: an operation that is linear in its signal stays as it is; a bias is a constant, named after its parameter.**
    """
    groups: dict[str, list[str]] = {}
    for row in TABLE:
        names = ", ".join(f"`{name}`" for name in row.names.split())
        groups.setdefault(row.rule.__module__, []).append(_line(names, row))
    for row in _BESIDE:
        groups[row.rule.__module__].append(_line(row.names, row))
    return "\n".join(_group(module, lines) for module, lines in groups.items())


def _group(module: str, lines: list[str]) -> str:
    heading = "The rest." if module == Row.__module__ else _first_line(sys.modules[module])
    return "\n".join([f"**{heading}**", "", "| operations | rule | what becomes of them |", "|---|---|---|", *lines, ""])


def _line(names: str, row: Row) -> str:
    return f"| {names} | {row.rule.__name__} | {_first_line(row.rule)} |"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|")


def page_with_rules(page: str) -> str:
    """A page with the table between its two marks.

    >>> page_with_rules("no marks")
    Traceback (most recent call last):
    ValueError: not enough values to unpack (expected 2, got 1)
    """
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n\n{rules_text()}\n{_END}{after}"
