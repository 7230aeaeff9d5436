"""`history.csv`: what was measured at which step of a run."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.files import replacing
from torchbcos._core.names import quote, whole_number
from torchbcos._core.tables import read_rows

__all__ = ["History"]


class History:
    """The rows of `history.csv`, one whenever something was measured; a damaged file is moved aside.

    Attributes:
        file: that is written.
        rows: so far.
        complaint: a sentence about a damaged file; empty where there was none.

    Args:
        file: of an earlier part of the run, or one that does not exist yet.
        step: of the checkpoint from which the run goes on; later rows are dropped, since they will be measured again.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "history.csv")
    ...     history = History(file, 0)
    ...     for step in (1, 2, 3):
    ...         history.add({"step": step, "loss": 0.5})
    ...     [row["step"] for row in History(file, 2).rows]
    ['1', '2']
    """

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        self.rows: list[dict[str, str]] = []
        self.complaint = ""
        if file.is_file():
            try:
                (_, columns), *rows = read_rows(file) or [(1, [])]
            except InputError:  # a log: what it says is not needed to go on
                kept = file.with_name(f"{file.stem}-damaged{file.suffix}")
                os.replace(file, kept)
                self.complaint = (
                    f"{quote(file)} is damaged: no table can be read from it. It is kept as {kept.name!r}, and a new one begins."
                )
                return
            whole = [dict(zip(columns, cells, strict=True)) for _, cells in rows if len(cells) == len(columns)]
            self.rows = [row for row in whole if (at := whole_number(row.get("step", ""))) is not None and at <= step]

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row, and write the file anew: it is short."""
        self.rows.append({key: _written(v) for key, v in values.items()})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.file) as partial, partial.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def _written(value: Any) -> str:
    """A cell; empty for what is no number, or infinite."""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return str(value)
