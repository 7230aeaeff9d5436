"""`history.csv`: what was measured at which step of a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchbcos._core.files import replacing


class History:
    """The rows of `history.csv`, one whenever something was measured.

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
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                self.rows = [row for row in csv.DictReader(lines) if _is_whole(row) and int(row["step"]) <= step]

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row, and write the file anew: it is short."""
        self.rows.append({key: f"{v:.6g}" if isinstance(v, float) else str(v) for key, v in values.items()})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.file) as partial, partial.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def _is_whole(row: Mapping[Any, Any]) -> bool:
    return None not in row and None not in row.values() and str(row.get("step", "")).isdigit()
