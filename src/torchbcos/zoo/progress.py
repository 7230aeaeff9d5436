"""A bar on stderr, or in a notebook, for calls that may take long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["counted", "shown"]

_T = TypeVar("_T")


def counted(
    batches: Iterator[_T], total: int | None, what: str, *, size: Callable[[_T], int], console: Console | None = None
) -> Iterator[_T]:
    """The batches, with a bar that counts their items while they are used.

    Args:
        batches: each with several items.
        total: how many items there are in all, if that is known.
        what: which, in the plural.
        size: how many items a batch has.
        console: where the bar goes; None: stderr, and where a notebook shows what it shows.

    >>> import io
    >>> with io.StringIO() as written:
    ...     list(counted(iter(["ab", "c"]), 3, "letters", size=len, console=Console(file=written, width=200)))
    ...     "3 of 3 letters" in written.getvalue()
    ['ab', 'c']
    True
    """
    console = console or Console(stderr=True)
    of = f" of {total:,}" if total is not None else ""
    columns = (TextColumn("{task.completed:,}" + f"{of} {what}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total)
        for batch in batches:
            yield batch
            bar.advance(task, size(batch))


def shown(batches: Iterator[_T], images: Any, wanted: bool, *, size: Callable[[_T], int]) -> Iterator[_T]:
    """The batches, with a bar where one is wanted; it knows the number of pictures where they are a list."""
    if not wanted:
        return batches
    return counted(batches, len(images) if isinstance(images, (list, tuple)) else None, "inputs", size=size)
