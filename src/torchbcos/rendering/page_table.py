"""Tables that a reader sorts by a click and filters by words: numbers as numbers, what is missing last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torchbcos.rendering.markup import Html, element
from torchbcos.rendering.page import shown

__all__ = ["Cell", "Column", "table"]

_LONG = 40  # characters: shorter words stay on one line


@dataclass(frozen=True)
class Column:
    """A column of `table`.

    Attributes:
        title: its heading.
        number: whether its cells are numbers: they stand at the right, and are sorted as numbers.
        high: whether a first click puts the largest number first.
        choose: whether a list above the table picks rows by this column's value.
        help: what it is, shown when a pointer rests on the heading.
    """

    title: str
    number: bool = False
    high: bool = False
    choose: bool = False
    help: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell whose words are not the plain value.

    Attributes:
        words: what is read; `Html` stays as it is.
        value: what it is sorted by, in a column of numbers.
        mark: "good", "even" or "poor": stands out.
        help: shown when a pointer rests on it.
    """

    words: str
    value: float | None = None
    mark: str = ""
    help: str = ""


_Value = Cell | str | float | int | bool | None


def table(columns: Sequence[Column], rows: Sequence[Sequence[_Value]], *, caption: str = "", tools: bool | None = None) -> Html:
    """A table; the first cell of a row is its heading.

    Args:
        columns: in order.
        rows: a value for each column: text, a number, None or NaN where there is none, or a `Cell`.
        caption: what it shows.
        tools: whether it is sorted and filtered; None: sorted from four rows on, filtered from ten.

    Raises:
        ValueError: a row has not one value a column.

    >>> table([Column("method"), Column("median", number=True)], [["rise", 0.5], ["lime", None]])[:33]
    '<div class="wide" tabindex="0" ro'
    """
    sort, choose = (len(rows) > 3, len(rows) > 9) if tools is None else (tools, tools)
    heads = element("tr", *(_head(column, sort) for column in columns))
    body = [element("tr", *(_cell(c, v, i == 0) for i, (c, v) in enumerate(zip(columns, row, strict=True)))) for row in rows]
    title = element("caption", caption) if caption else ""
    whole = element("table", title, element("thead", heads), Html("<tbody>" + "\n".join(body) + "</tbody>"))
    about = {"class": "wide", "tabindex": "0", "role": "region", "aria-label": caption or "Table"}
    box = element("div", whole, attributes={**about})
    return element("div", _tools(columns) if choose else "", box, attributes={"data-table": True}) if sort else box


def _head(column: Column, sort: bool) -> Html:
    about: dict[str, str | bool] = {"scope": "col", "title": column.help or False, "class": "n" if column.number else False}
    if not sort:
        return element("th", column.title, attributes=about)
    about |= {
        "aria-sort": "none",
        "data-kind": "number" if column.number else "text",
        "data-first": "descending" if column.high else False,
    }
    return element("th", element("button", column.title, attributes={"type": "button"}), attributes=about)


def _cell(column: Column, value: _Value, first: bool) -> Html:
    cell = value if isinstance(value, Cell) else Cell(value if isinstance(value, Html) else shown(value), _number(value))
    short = [] if first or len(cell.words) > _LONG else ["s"]
    classes = ["n"] if column.number else short
    missing = column.number and (cell.value is None or not math.isfinite(cell.value))
    classes += ["m"] if missing else []
    classes += [cell.mark] if cell.mark else []
    about: dict[str, str | bool] = {"class": " ".join(classes) or False, "title": cell.help or False}
    if column.number and not missing:
        about["data-v"] = repr(cell.value)
    if first:
        about["scope"] = "row"
    return element("th" if first else "td", cell.words, attributes=about)


def _number(value: _Value) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _tools(columns: Sequence[Column]) -> Html:
    """The field for words, a list a column that can be chosen by (the script fills it), what is shown, and the way back."""
    parts = [element("label", "Filter by words", element("input", attributes={"type": "search", "autocomplete": "off"}))]
    for i, column in enumerate(columns):
        if column.choose:
            choice = element("select", element("option", "all"), attributes={"data-column": str(i)})
            parts.append(element("label", column.title, choice))
    parts.append(element("button", "Reset", attributes={"type": "button"}))
    parts.append(element("output", attributes={"aria-live": "polite"}))
    return element("div", *parts, attributes={"class": "tools"})
