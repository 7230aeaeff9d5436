"""What was computed already, in a folder: a new metric reuses maps, and a killed process loses one batch."""

from __future__ import annotations

import errno
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchbcos._core.errors import BcosError, StateError
from torchbcos._core.files import read_whole, replacing, write_json
from torchbcos._core.names import quote

__all__ = ["Kept", "Store", "kept_of"]

_MARK, _SCHEMA = "torchbcos-maps.json", 2
_MAPS, _VALUES = "maps", "values"
_LONGEST = 2**24  # characters of a line of numbers
_MARK_BYTES = 4096


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

    Maps are files of their own; numbers are lines, in one file for each process that writes. Both have checksums: what is damaged
    counts as missing, and is computed again.

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
            # another process may write the mark between the two looks
            if not mark.is_file() and self._is_foreign() and not mark.is_file():
                raise StateError(
                    f"{quote(self.root)} is a folder of something else, and maps are not mixed with it: choose a new one."
                )
            if not mark.is_file():
                write_json(mark, {"schema": _SCHEMA, "about": "maps and numbers of torchbcos compare; may be deleted"})
            for part in (_MAPS, _VALUES):
                (self.root / part).mkdir(exist_ok=True)
                if not os.access(self.root / part, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise StateError(
                f"Maps cannot be kept in {quote(self.root)}: {error.strerror}. Choose another folder (--cache)."
            ) from None
        if _schema_of(mark) != _SCHEMA:
            raise StateError(f"{quote(self.root)} holds maps of another release: choose another folder (--cache), or delete it.")
        self.reload()

    def _is_foreign(self) -> bool:
        return any(path.name != _MARK and not path.name.startswith(".") for path in self.root.iterdir())

    # -- maps ----------------------------------------------------------------------------------------------------------

    def path(self, model: str, method: str, item: str) -> Path:
        """Where the maps of an item lie."""
        return self.root / _MAPS / model / method / f"{item}.safetensors"

    def read(self, model: str, method: str, item: str) -> Kept | None:
        """The maps of an item; None: there are none, or the file is damaged."""
        try:
            with safe_open(self.path(model, method, item), framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if int(about["checksum"]) != _checksum(tensors):
                return None
            told = tuple(str(text) for text in json.loads(about["told"]))
            kept = Kept(
                tensors["maps"], tensors["values"], tensors.get("delta"), int(about["passes"]), float(about["seconds"]), told
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        k = len(kept.maps)
        shapes = kept.maps.dim() == 3 and kept.values.shape == (k,) and (kept.delta is None or kept.delta.shape == (k,))
        return kept if shapes and kept.maps.dtype == kept.values.dtype == torch.float32 else None

    def write(self, model: str, method: str, item: str, kept: Kept) -> None:
        """Keep the maps of an item.

        Raises:
            StateError: they cannot be written.
        """
        target = self.path(model, method, item)
        tensors = {"maps": kept.maps.contiguous(), "values": kept.values.contiguous()}
        if kept.delta is not None:
            tensors["delta"] = kept.delta.contiguous()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as partial:
                about = {"passes": str(kept.passes), "seconds": repr(kept.seconds), "told": json.dumps(kept.told)}
                save_file(tensors, partial, {**about, "checksum": str(_checksum(tensors))})
        except (OSError, SafetensorError) as error:
            raise _unwritable(self.root, error) from None

    # -- numbers -------------------------------------------------------------------------------------------------------

    def numbers(self, key: str) -> dict[str, Any] | None:
        """What was noted under a key."""
        return self._numbers.get(key)

    def note(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Note what was measured, a line a record: what is there of it is whole.

        Raises:
            StateError: it cannot be written.
        """
        if self._file is None or not self._file.name.startswith(f"{os.getpid()}-"):  # a fork writes a file of its own
            self._file = self.root / _VALUES / f"{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
        lines = "".join(_line({"key": key, **_null(record)}) for key, record in records.items())
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            self._file = None  # it may end in half a line
            raise _unwritable(self.root, error) from None
        self._numbers.update({key: dict(record) for key, record in records.items()})

    def reload(self) -> None:
        """Read what all processes noted; a line that a killed one left unfinished is none."""
        for file in sorted((self.root / _VALUES).glob("*.jsonl")):
            if file.is_file():  # a pipe would never end
                self._numbers.update(_lines(file))


def _schema_of(mark: Path) -> object:
    try:
        return json.loads(read_whole(mark, _MARK_BYTES)).get("schema")
    except (OSError, BcosError, ValueError, AttributeError, RecursionError):
        return None


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """Of the numbers: a file of maps has none of its own, and a disk that failed gives other numbers."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].contiguous().numpy().tobytes(), zlib.crc32(name.encode(), found))
    return found


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, allow_nan=False)
    return json.dumps({"crc": zlib.crc32(text.encode()), **record}, allow_nan=False) + "\n"


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            while line := lines.readline(_LONGEST):
                found = _record(line) if line.endswith("\n") else None
                if found is not None:
                    yield found
    except OSError:
        return


def _record(line: str) -> tuple[str, dict[str, Any]] | None:
    """The key and the record of a line; None: it is damaged, or none of ours."""
    try:
        record = json.loads(line)
        crc = record.pop("crc")
        if crc != zlib.crc32(json.dumps(record).encode()):
            return None
        key = record.pop("key")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return (key, _nan(record)) if isinstance(key, str) and all(_fits(name, one) for name, one in record.items()) else None


def _fits(name: str, value: Any) -> bool:
    """Whether a part of a record is of its kind."""
    if name == "told":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "values" or name.startswith("curve "):
        return isinstance(value, list) and all(one is None or _is_number(one) for one in value)
    return isinstance(value, str) if name == "refused" else _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
