"""Which examples a run kept away from training: written where it is trained, read where it is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchbcos._core.errors import WeightsError
from torchbcos._core.files import read_whole, write_json

if TYPE_CHECKING:  # names alone: opening a model needs no data room
    from torchbcos.data.labelled import Labelled, Split
    from torchbcos.runs.folder import RunFolder

__all__ = ["HELD_OUT", "read_held_out", "write_held_out"]

HELD_OUT = ("selection", "report")
_MOST_BYTES = 2**29  # the names of ten million pictures


def write_held_out(run: RunFolder, data: Labelled, splits: Mapping[str, Split | None]) -> None:
    """Write the names of the examples of the splits in `HELD_OUT`, beside the data's fingerprint."""
    named = {name: list(split.names) if (split := splits[name]) else [] for name in HELD_OUT}
    write_json(run.splits, {"data": data.train.fingerprint(), **named})


def read_held_out(run: RunFolder, data: Labelled) -> dict[str, list[str]]:
    """The names of the examples of this data that a run held out; empty where it had other data, or is no run.

    Returns:
        Split name ("selection", "report") -> names of examples.

    Raises:
        WeightsError: the file is damaged.
    """
    if not run.splits.is_file():
        return {}
    try:
        found = json.loads(read_whole(run.splits, _MOST_BYTES))
        if not all(isinstance(found[name], list) and all(isinstance(one, str) for one in found[name]) for name in HELD_OUT):
            raise ValueError
        return {name: found[name] for name in HELD_OUT} if found["data"] == data.train.fingerprint() else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WeightsError(f"{str(run.splits)!r} is damaged.") from None
    except OSError as error:
        raise WeightsError(f"{str(run.splits)!r} cannot be read: {error.strerror or error}.") from None
