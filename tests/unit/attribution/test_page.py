"""The page of methods prints the table as the code has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos.attribution import METHODS
from torchbcos.attribution.page import methods_text, page_with_methods

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "methods.md"


def test_the_page_is_what_the_code_prints() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_methods(page), "methods have changed: run `make docs`"


def test_the_text_has_a_row_for_every_method() -> None:
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in methods_text().splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == list(METHODS) and {len(row) for row in rows} == {9}
    assert all(cell.strip() for row in rows for cell in row)


def test_an_old_page_is_seen() -> None:
    page = PAGE.read_text("utf-8")
    old = page.replace("| `saliency` |", "| `salience` |")
    assert old != page and page_with_methods(old) == page
    with pytest.raises(ValueError, match="unpack"):
        page_with_methods("a page without marks")
