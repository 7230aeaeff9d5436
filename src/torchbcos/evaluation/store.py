"""What was computed already, in a folder: a new metric reuses maps, and a killed process loses one batch."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchbcos._core.errors import StateError
from torchbcos._core.files import replacing, write_json
from torchbcos._core.names import quote

__all__ = ["Kept", "Store", "kept_of"]

_MARK, _SCHEMA = "torchbcos-maps.json", 1
_MAPS, _VALUES = "maps", "values"
_LONGEST = 2**24  # characters of a line of numbers


@dataclass(frozen=True)
class Kept:
    """The maps of one item.

    Attributes:
        maps: (K, H, W) float32.
        values: (K,) the logits that are explained.
        delta: (K,) what the maps lack of the sum that their method promises; None: it promises none.
        passes: through the network, for all K.
        seconds: for all K.
        told: what the method warned of.
    """

    maps: Tensor
    values: Tensor
    delta: Tensor | None
    passes: int
    seconds: float
    told: tuple[str, ...] = ()


@dataclass
class Store:
    """A folder of maps and numbers, which several processes and machines may share.

    Maps are files of their own; numbers are lines, in one file for each process that writes. What is damaged counts as missing.

    Args:
        root: created, if it is not there.

    Raises:
        StateError: it cannot be written, or is a folder of something else.
    """

    root: Path
    _numbers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _file: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        mark = self.root / _MARK
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not mark.is_file():
                others = any(path.name != mark.name and not path.name.startswith(".") for path in self.root.iterdir())
                if others and not mark.is_file():  # asked again: another process may have begun the folder meanwhile
                    raise StateError(
                        f"{quote(self.root)} is a folder of something else, and maps are not mixed with it: choose a new one."
                    )
                write_json(mark, {"schema": _SCHEMA, "about": "maps and numbers of torchbcos compare; may be deleted"})
            for part in (_MAPS, _VALUES):
                (self.root / part).mkdir(exist_ok=True)
            schema = json.loads(mark.read_text("utf-8")).get("schema")
        except OSError as error:
            raise StateError(
                f"Maps cannot be kept in {quote(self.root)}: {error.strerror}. Choose another folder (--cache)."
            ) from None
        except (ValueError, AttributeError):
            schema = None
        if schema != _SCHEMA:
            raise StateError(f"{quote(self.root)} holds maps of another release: choose another folder (--cache), or delete it.")
        self.reload()

    # -- maps ----------------------------------------------------------------------------------------------------------

    def path(self, model: str, method: str, item: str) -> Path:
        """Where the maps of an item lie."""
        return self.root / _MAPS / model / method / f"{item}.safetensors"

    def has(self, model: str, method: str, item: str) -> bool:
        """Whether there are maps of this item."""
        return self.path(model, method, item).is_file()

    def read(self, model: str, method: str, item: str) -> Kept | None:
        """The maps of an item; None: there are none, or the file is damaged."""
        try:
            with safe_open(self.path(model, method, item), framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = json.loads(about.get("told", "[]"))
            kept = Kept(
                tensors["maps"], tensors["values"], tensors.get("delta"), int(about["passes"]), float(about["seconds"]),
                tuple(str(text) for text in told),
            )  # fmt: skip
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        return kept if kept.maps.dim() == 3 and len(kept.maps) == len(kept.values) else None

    def write(self, model: str, method: str, item: str, kept: Kept) -> None:
        """Keep the maps of an item.

        Raises:
            StateError: they cannot be written.
        """
        target = self.path(model, method, item)
        tensors = {"maps": kept.maps.contiguous(), "values": kept.values.contiguous()}
        if kept.delta is not None:
            tensors["delta"] = kept.delta.contiguous()
        about = {"passes": str(kept.passes), "seconds": repr(kept.seconds), "told": json.dumps(kept.told)}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as partial:
                save_file(tensors, partial, about)
        except (OSError, SafetensorError) as error:
            raise _unwritable(self.root, error) from None

    # -- numbers -------------------------------------------------------------------------------------------------------

    def numbers(self, key: str) -> dict[str, Any] | None:
        """What was noted under a key."""
        return self._numbers.get(key)

    def note(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Note what was measured: all of it is on the disk afterwards, or none.

        Raises:
            StateError: it cannot be written.
        """
        if self._file is None:
            self._file = self.root / _VALUES / f"{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
        lines = "".join(json.dumps({"key": key, **_null(record)}, allow_nan=False) + "\n" for key, record in records.items())
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            raise _unwritable(self.root, error) from None
        self._numbers.update({key: dict(record) for key, record in records.items()})

    def reload(self) -> None:
        """Read what all processes noted; a line that a killed one left unfinished is none."""
        for file in sorted((self.root / _VALUES).glob("*.jsonl")):
            self._numbers.update(_lines(file))


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if len(line) > _LONGEST or not line.endswith("\n"):
                    continue
                try:
                    record = json.loads(line)
                    key = record.pop("key")
                except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                    continue
                if isinstance(key, str):
                    yield key, _nan(record)
    except OSError:
        return


def _null(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: [None if isinstance(v, float) and not math.isfinite(v) else v for v in one] if isinstance(one, list) else one
            for k, one in record.items()}  # fmt: skip


def _nan(record: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of numbers have NaN where JSON has null."""
    return {k: [math.nan if v is None else v for v in one] if isinstance(one, list) else one for k, one in record.items()}


def _unwritable(root: Path, error: Exception) -> StateError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
    return StateError(
        f"Maps could not be kept in {quote(root)}: {reason}. What was computed is there: run the same command again."
    )


def kept_of(maps: Tensor, values: Tensor, delta: Tensor | None, passes: int, seconds: float, told: Sequence[str] = ()) -> Kept:
    """Maps as they are kept: on the processor, in float32."""

    def there(t: Tensor) -> Tensor:
        return t.detach().to("cpu", torch.float32)

    return Kept(there(maps), there(values), None if delta is None else there(delta), passes, seconds, tuple(told))
