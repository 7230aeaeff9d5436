"""The table of metrics as text: docs/explanation/metrics.md prints it, so that the page says what the code does."""

from __future__ import annotations

from torchbcos.metrics.about import Metric
from torchbcos.metrics.table import METRICS

__all__ = ["metrics_text", "page_with_metrics"]

_BEGIN = "<!-- printed from torchbcos.metrics.METRICS by `make docs` -->"
_END = "<!-- end of the table -->"
_HEAD = (
    "| metric | what it is | best | range | needs | cost | verified against | blind spot | source |",
    "|---|---|---|---|---|---|---|---|---|",
)


def metrics_text() -> str:
    """A row for every metric, in Markdown.

    >>> metrics_text().splitlines()[0][:25]
    '| metric | what it is | b'
    """
    return "\n".join([*_HEAD, *(_row(metric) for metric in METRICS.values())])


def _row(metric: Metric) -> str:
    cells = (
        f"`{metric.name}`", metric.summary, metric.best, metric.range, metric.needs, metric.cost, metric.verified,
        _sentence(metric.blind),
        metric.source,
    )  # fmt: skip
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


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
