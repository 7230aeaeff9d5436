"""`torchbcos evaluate --list`: tables that fit the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

from torchbcos.cli.common import tell

__all__ = ["tell_table"]

_WIDE = 140  # columns from which each fact has a column of its own
_RATIOS = {"best": None, "passes": None, "checked against": 3}  # of the width, beside 2; None: as much as its longest line


def tell_table(title: str, records: Sequence[dict[str, Any]], facts: dict[str, str]) -> None:
    """A table of records: their names, summaries and facts; in a narrow terminal the facts stand below the summary.

    Args:
        title: the heading of the table.
        records: each with "name", "summary" and the facts.
        facts: key of a record -> how it is called.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console()
    wide = out.width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0) if wide else (0, 2, 1, 0), pad_edge=False, header_style="", expand=False)
    for heading, ratio in _columns(title, facts, wide):
        table.add_column(Text(heading), ratio=ratio, no_wrap=ratio is None, overflow="fold")
    for record in records:
        table.add_row(*(Text(cell) for cell in _cells(record, facts, wide)))
    console = Console(file=io.StringIO(), width=out.width, color_system=None, force_terminal=False)
    console.print(table)
    for line in console.file.getvalue().splitlines():  # type: ignore[attr-defined]  # a StringIO
        tell(line.rstrip())


def _columns(title: str, facts: dict[str, str], wide: bool) -> Iterable[tuple[str, int | None]]:
    """Headings, and how much of the width each column takes; None: as much as its longest line."""
    yield title, None
    yield "what it is", 4
    if wide:
        yield from ((heading, _RATIOS.get(heading, 2)) for heading in facts.values())


def _cells(record: dict[str, Any], facts: dict[str, str], wide: bool) -> list[str]:
    said = [str(record[key]) for key in facts]
    if wide:
        return [record["name"], record["summary"], *said]
    below = "; ".join(f"{heading}: {fact}" for heading, fact in zip(facts.values(), said, strict=True))
    return [record["name"], f"{record['summary']}\n{below}"]
