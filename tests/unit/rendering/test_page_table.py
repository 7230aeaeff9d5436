from __future__ import annotations

import math

import pytest

from tests.pages import read_page
from torchbcos.rendering.page import code
from torchbcos.rendering.page_table import Cell, Column, table

COLUMNS = [Column("method"), Column("model", choose=True), Column("median", number=True, high=True, help="of all")]
ROWS = [
    ["rise", "a", 0.5],
    ["lime", "a", None],
    ["edges", "b", math.nan],
    ["inherent", "b", Cell("0.98 [0.97, 0.99]", 0.98, "good")],
]


def test_numbers_are_sorted_by_their_value_and_missing_ones_have_none() -> None:
    html = table(COLUMNS, ROWS)
    values = [given.get("data-v") for tag, given in read_page(html).elements if tag == "td" and "n" in (given.get("class") or "")]
    assert values == ["0.5", None, None, "0.98"]
    assert html.count(">–<") == 2 and '<td class="n good" data-v="0.98">0.98 [0.97, 0.99]</td>' in html


def test_headings_are_buttons_that_say_how_they_sort() -> None:
    heads = [given for tag, given in read_page(table(COLUMNS, ROWS)).elements if tag == "th" and given.get("scope") == "col"]
    assert [head["aria-sort"] for head in heads] == ["none"] * 3
    assert [head["data-kind"] for head in heads] == ["text", "text", "number"]
    assert heads[2]["data-first"] == "descending" and heads[2]["title"] == "of all"
    assert table(COLUMNS, ROWS).count('<button type="button">') == 3
    assert table(COLUMNS, ROWS, tools=True).count('<button type="button">') == 4  # reset


def test_a_short_table_has_no_tools_unless_asked() -> None:
    assert "aria-sort" not in table(COLUMNS, ROWS[:3]) and "<input" not in table(COLUMNS, ROWS[:3])
    assert "aria-sort" in table(COLUMNS, ROWS) and "<input" not in table(COLUMNS, ROWS) and "<input" in table(COLUMNS, ROWS * 3)
    assert "aria-sort" in table(COLUMNS, ROWS[:3], tools=True)


def test_columns_can_be_chosen_by() -> None:
    assert table(COLUMNS, ROWS, tools=True).count("<select") == 1
    assert '<select data-column="1">' in table(COLUMNS, ROWS, tools=True)


def test_cells_keep_the_html_of_this_room_and_escape_the_rest() -> None:
    assert "<code>a&lt;b</code>" in table([Column("a")], [[code("a<b")]])
    assert "&lt;b&gt;" in table([Column("a")], [["<b>"]]) and "&lt;b&gt;" in table([Column("a")], [[Cell("<b>", help="<i>")]])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(COLUMNS, [["rise", "a"]])


def test_whole_numbers_and_huge_ones_are_sorted_exactly() -> None:
    html = table([Column("a"), Column("n", number=True)], [["x", 123456], ["y", 1e-12], ["z", -0.0]])
    assert 'data-v="123456.0"' in html and 'data-v="1e-12"' in html and 'data-v="-0.0"' in html
