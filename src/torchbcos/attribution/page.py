"""The table of methods as text: docs/explanation/methods.md prints it, so that the page says what the code does."""

from __future__ import annotations

from torchbcos.attribution.methods import METHODS
from torchbcos.attribution.record import Method

__all__ = ["methods_text", "page_with_methods"]

_BEGIN = "<!-- printed from torchbcos.attribution.METHODS by `make docs` -->"
_END = "<!-- end of the table -->"
_HEAD = (
    "| method | what a map shows | signed | sums to | a class its own | needs | passes, K targets | checked against | source |",
    "|---|---|---|---|---|---|---|---|---|",
)


def methods_text() -> str:
    """A row for every method, in Markdown.

    >>> methods_text().splitlines()[2][:14]
    '| `inherent` |'
    """
    return "\n".join([*_HEAD, *(_row(name, method) for name, method in METHODS.items())])


def _row(name: str, method: Method) -> str:
    cells = (
        f"`{name}`", method.summary, "yes" if method.signed else "no", method.complete or "–",
        "yes" if method.class_specific else "no", method.needs, method.cost, method.verified, method.source,
    )  # fmt: skip
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def page_with_methods(page: str) -> str:
    """A page with the table between its two marks.

    >>> page_with_methods("no marks")
    Traceback (most recent call last):
    ValueError: not enough values to unpack (expected 2, got 1)
    """
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n\n{methods_text()}\n\n{_END}{after}"
