"""What a run held out of its data: written where it is trained, read where it is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torchbcos._core.errors import WeightsError
from torchbcos._core.files import write_json
from torchbcos.data.labelled import Labelled, Split

FILE = "splits.json"
HELD = ("selection", "report")


def write_held_out(run: Path, data: Labelled, splits: Mapping[str, Split | None]) -> None:
    """The names of the examples of each split, beside the data's fingerprint."""
    named = {name: list(split.names) if (split := splits[name]) else [] for name in HELD}
    write_json(run / FILE, {"data": data.train.fingerprint(), **named})


def read_held_out(run: Path, data: Labelled) -> dict[str, list[str]]:
    """The names of what a run held out of this data; nothing where it had other data, or is no run.

    Raises:
        WeightsError: the file is damaged.
    """
    file = run / FILE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))
        return {name: list(found[name]) for name in HELD} if found["data"] == data.train.fingerprint() else {}
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{str(file)!r} is damaged.") from None
