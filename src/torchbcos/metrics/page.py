"""The table of metrics as text: docs/explanation/metrics.md prints it, so that the page says what the code does."""

from __future__ import annotations

from torchbcos.metrics.table import METRICS

__all__ = ["metrics_text", "page_with_metrics"]

_BEGIN = "<!-- printed from torchbcos.metrics.METRICS by `make docs` -->"
_END = "<!-- end of the table -->"
# two tables: one of nine columns cannot be read
_FACTS = "| metric | what it is | good | values | needs | passes | checked against |"
_LIMITS = "| metric | what it does not see | source |"


def metrics_text() -> str:
    """A row for every metric in each of two tables, in Markdown.

    >>> metrics_text().splitlines()[0][:25]
    '| metric | what it is | g'
    """
    every = METRICS.values()
    facts = [_row(m.name, m.summary, m.best, m.range, m.needs, m.cost, m.verified) for m in every]
    limits = [_row(m.name, _sentence(m.blind), m.source) for m in every]
    return "\n".join([_FACTS, "|---" * 7 + "|", *facts, "", _LIMITS, "|---" * 3 + "|", *limits])


def _row(name: str, *cells: str) -> str:
    return "| " + " | ".join([f"`{name}`", *(" ".join(cell.split()).replace("|", "\\|") for cell in cells)]) + " |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def page_with_metrics(page: str) -> str:
    """A page with the table between its two marks.

    >>> page_with_metrics("no marks")
    Traceback (most recent call last):
    ValueError: not enough values to unpack (expected 2, got 1)
    """
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n\n{metrics_text()}\n\n{_END}{after}"
