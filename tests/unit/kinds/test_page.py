"""The page of kinds prints the table of rules as the code has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos.kinds.page import page_with_rules, rules_text
from torchbcos.kinds.table import TABLE

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "kinds.md"


def test_the_page_is_what_the_code_prints() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_rules(page), "rules have changed: run `make docs`"


def test_the_text_has_every_rule_with_its_operations_and_its_reason() -> None:
    lines = rules_text().splitlines()
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines if line.startswith("| ")]
    by_rule = {row[1]: row for row in rows if row[1] not in ("rule", "---")}
    assert {len(row) for row in rows} == {3}
    for row in TABLE:
        names, _, why = by_rule[row.rule.__name__]
        assert names == ", ".join(f"`{name}`" for name in row.names.split())
        assert why and why in (row.rule.__doc__ or "")
    assert {"atom", "unknown"} <= set(by_rule)
    assert sum(line.startswith("**") for line in lines) >= 8


def test_an_old_page_is_seen() -> None:
    page = PAGE.read_text("utf-8")
    old = page.replace("| relu", "| rleu").replace("`max`, `min`", "`max`")
    assert old != page and page_with_rules(old) == page
    with pytest.raises(ValueError, match="unpack"):
        page_with_rules("a page without marks")
