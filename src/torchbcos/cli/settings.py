"""`torchbcos train --settings`: what can be set, as tables or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchbcos.cli.common import print_json

if TYPE_CHECKING:
    from rich.table import Table

    from torchbcos.training import Setting

__all__ = ["print_settings"]

_PIPED = 120  # columns where no terminal says how many it has


def print_settings(words: list[str], *, json: bool) -> None:
    """Print the settings that the words name, a table for each group; all of them without a word."""
    from rich.console import Console

    from torchbcos.training.recipe import GROUPS, find_settings, group_of, to_record

    found = find_settings(*words)
    if json:
        print_json([to_record(one) for one in found])
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED)
    for title in GROUPS:
        own = [one for one in found if group_of(one.key) == title]
        if own:
            console.print(_table_of(title, own), "")
    if any(one.resume == "fixed" for one in found):
        console.print("* A run that was begun goes on with the same value only.")


def _table_of(title: str, settings: list[Setting]) -> Table:
    """The table of one group."""
    from rich.table import Table
    from rich.text import Text

    from torchbcos.training.recipe import default_of, star

    # without lines: they would be escaped where the terminal has no Unicode
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), expand=True)
    for name, share in (("key", 5), ("default", 3), ("values", 5), ("what it does", 12)):
        table.add_column(name, ratio=share, overflow="fold")
    for one in settings:
        cells = (one.key + star(one), default_of(one), one.accepts, one.text)
        table.add_row(*(Text(cell) for cell in cells))  # as texts: rich takes brackets in a plain string for styles
    return table
