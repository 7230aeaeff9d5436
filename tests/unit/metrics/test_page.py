"""The page of metrics prints the table as the code has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos.metrics import METRICS
from torchbcos.metrics.page import metrics_text, page_with_metrics

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "metrics.md"


def test_the_page_is_what_the_code_prints() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_metrics(page), "metrics have changed: run `make docs`"


def test_the_text_has_a_row_for_every_metric() -> None:
    lines = [line for line in metrics_text().splitlines() if line.startswith("| `")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    assert [row[0].strip("`") for row in rows] == [*METRICS, *METRICS]
    assert [len(row) for row in rows] == [7] * len(METRICS) + [3] * len(METRICS)
    assert all(cell.strip() for row in rows for cell in row)


def test_every_metric_has_its_formula() -> None:
    """The table is printed from the records; formulas are written by hand."""
    text = PAGE.read_text("utf-8").partition("## Formulas")[2]
    assert [name for name in METRICS if f"`{name}`" not in text.partition("<!-- printed")[0]] == []


def test_an_old_page_is_seen() -> None:
    page = PAGE.read_text("utf-8")
    old = page.replace("| `gini` |", "| `gni` |")
    assert old != page and page_with_metrics(old) == page
    with pytest.raises(ValueError, match="unpack"):
        page_with_metrics("a page without marks")
