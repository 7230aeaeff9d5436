"""Proofs: an explanation as a small file that somebody else can check, with the network and the picture or without them.

The file is one JSON object in one spelling, with a checksum (`_core.sealed`). docs/how-to/proofs.md describes each field.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import platform
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import read_whole
from torchbcos._core.fingerprint import hash_of
from torchbcos._core.names import quote
from torchbcos._core.numbers import integer
from torchbcos._core.sealed import canonical, read_sealed, seal, write_sealed
from torchbcos._core.version import VERSION
from torchbcos.explanation.complete import usual_tolerance
from torchbcos.explanation.told import record_of

if TYPE_CHECKING:
    from torchbcos.explanation.result import Explanation

__all__ = ["FORMAT", "LARGEST", "Stated", "card_hash", "file_hash", "proof_bytes", "prove", "read_proof"]

FORMAT = "torchbcos proof 1"
LARGEST = 64 * 2**20  # bytes of a proof
_MOST_NUMBERS = 2**24  # of a map
_MOST_CONSTANTS = 10_000
_MOST_SETTINGS = 64  # of a preprocessing
_MOST_PICTURE = 2**30  # bytes of a picture's file
_HEX = set("0123456789abcdef")


def prove(e: Explanation, path: Path, i: int, k: int, picture: Path | None) -> Path:
    """Write a proof; see `Explanation.prove`."""
    named = None if picture is None else (picture.name, file_hash(picture))
    return write_sealed(path, _record(e, i, k, named), limit=LARGEST)


def proof_bytes(e: Explanation, i: int, k: int, picture: tuple[str, str] | None) -> bytes:
    """A proof in memory.

    Args:
        e, i, k: see `Explanation.prove`.
        picture: name and SHA-256 of its file.

    Raises:
        InputError, StateError: as `Explanation.prove`.
    """
    return seal(_record(e, i, k, picture))


def _record(e: Explanation, i: int, k: int, picture: tuple[str, str] | None) -> dict[str, Any]:
    if e.at is not None:
        raise InputError("A proof is about a network's own outputs, and this explanation is about an inner feature.")
    if e.origin is None:
        raise StateError("This explanation was put together by hand or came from elsewhere: no network is known for it.")
    weights, count = e.origin.weights()
    card, said = None if e.origin.card is None else e.origin.card.to_dict(), record_of(e, i, k)
    if said["value"] is None or said["contribution"] is None:
        raise StateError("Numbers that are not finite prove nothing.")
    map_ = e.contributions[i, k].detach().double().cpu().numpy()
    if map_.size > _MOST_NUMBERS:
        raise InputError(f"A map of {map_.size:,} numbers is more than a proof holds ({_MOST_NUMBERS:,}).")
    other = said.get("contrast")
    return {
        "format": FORMAT,
        "made with": {"torchbcos": VERSION, "torch": torch.__version__, "python": platform.python_version()},
        "model": {
            "name": None if card is None else str(card["name"]), "weights": weights, "parameters": count,
            "file": None if card is None else card.get("digest"), "card": None if card is None else card_hash(card),
        },
        "preprocess": None if card is None else card.get("preprocess"),
        "options": e.origin.options,
        "picture": None if picture is None else dict(zip(("name", "sha256"), picture, strict=True)),
        "input": {"sha256": hash_of(e.inputs[i]), "shape": list(e.inputs.shape[1:]), "dtype": str(e.inputs.dtype)[6:]},
        "target": {"index": said["index"], "label": said["label"]},
        "contrast": other,
        "value": said["value"], "contribution": said["contribution"], "constants": said["constants"], "fixed": list(e.fixed),
        "residual": said["residual"], "share": said["share"],
        "tolerance": e.tolerance or usual_tolerance(e.inputs.dtype, e.values.dtype),
        "map": _packed(map_),
    }  # fmt: skip


def card_hash(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card as data, without where its file lies."""
    return hashlib.sha256(canonical(_plain({k: v for k, v in card.items() if k not in ("file", "url")}))).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON keeps: lists for tuples, and text for what it has not."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def file_hash(path: Path) -> str:
    """SHA-256 of a picture's file.

    Raises:
        MissingFileError, InputError: it is not there, or no file that ends.
    """
    try:
        return hashlib.sha256(read_whole(path, _MOST_PICTURE)).hexdigest()
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {quote(path)}.") from None
    except OSError as error:
        raise InputError(f"{quote(path)} cannot be read: {error.strerror or type(error).__name__}.") from None


def _packed(map_: NDArray[np.float64]) -> dict[str, Any]:
    """A map in half precision: numbers between -1 and 1, and what they are multiplied by."""
    scale = float(np.abs(map_).max(initial=0.0)) or 1.0
    data = zlib.compress((map_ / scale).astype("<f2").tobytes(), 9)
    return {"shape": list(map_.shape), "scale": scale, "data": base64.b64encode(data).decode("ascii")}


# -- reading what a stranger wrote -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stated:
    """What a proof says.

    Attributes:
        record: the file, but for its checksum and its map.
        map: (*S) float64: the contributions, each to 11 bits.
        slack: how far the sum of the map may be off for being in half precision.
    """

    record: dict[str, Any]
    map: NDArray[np.float64]
    slack: float


def read_proof(path: Path) -> Stated:
    """What a proof says; its checksum fits, and each field has its form. Nothing says yet that it is true.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no proof, was changed, or promises what it does not hold.
    """
    record = read_sealed(path, limit=LARGEST, what="proof")
    if record.get("format") != FORMAT:
        raise InputError(
            f"{quote(path)} is no proof of this kind: its format is {quote(str(record.get('format'))[:60])}, not {quote(FORMAT)}."
        )
    fault = _fault(record, _FIELDS, "")
    if fault is None:
        fault = _unfit(record)
    if fault is not None:
        raise InputError(
            f"{quote(path)} is no proof: its field {quote(fault)} is missing, not of its kind, or too large; or no proof has it."
        )
    packed = record.pop("map")
    return Stated(record, *_unpacked(packed, path))


def _unfit(record: Mapping[str, Any]) -> str | None:
    """The first field that does not fit the others."""
    if not set(record["fixed"]) <= set(record["constants"]):
        return "fixed"
    if record["contrast"] is not None and record["contrast"]["index"] == record["target"]["index"]:
        return "contrast"
    return "map.shape" if record["map"]["shape"] != record["input"]["shape"][1:] else None


def _unpacked(packed: Mapping[str, Any], path: Path) -> tuple[NDArray[np.float64], float]:
    shape, scale = packed["shape"], packed["scale"]
    count = math.prod(shape)
    try:
        data = base64.b64decode(packed["data"], validate=True)
        machine = zlib.decompressobj()
        numbers = machine.decompress(data, 2 * count + 1)  # no more than it says: a bomb stays packed
        ended = machine.eof and not machine.unused_data
    except (ValueError, zlib.error, binascii.Error):
        numbers, ended = b"", False
    if not ended or len(numbers) != 2 * count:
        raise InputError(f"{quote(path)} is no proof: its map does not hold the {count:,} numbers that it promises.")
    map_ = np.frombuffer(numbers, "<f2").astype(np.float64).reshape(shape)
    if not np.isfinite(map_).all() or np.abs(map_).max(initial=0.0) > 1:
        raise InputError(f"{quote(path)} is no proof: its map has numbers that are none.")
    return map_ * scale, scale * float((np.abs(map_) * 2.0**-11 + 2.0**-25).sum())


_Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 10_000


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e38


def _few(value: Any, kind: type[dict[str, Any]] | type[list[Any]]) -> bool:
    return isinstance(value, kind) and len(value) <= _MOST_CONSTANTS


def _hash(value: Any) -> bool:
    return isinstance(value, str) and 8 <= len(value) <= 64 and set(value) <= _HEX


def _index(value: Any) -> bool:
    return integer(value) is not None and not isinstance(value, float) and 0 <= value < 2**31


def _sides(value: Any, most: int, least: int = 0) -> bool:
    return isinstance(value, list) and least <= len(value) <= most and all(_index(n) and n > 0 for n in value)


def _maybe(check: Any) -> Any:
    return lambda value: value is None or (_fault(value, check, "") is None if isinstance(check, Mapping) else check(value))


_DTYPES = ("float64", "float32", "float16", "bfloat16")
_CLASS: Mapping[str, Any] = {"index": _index, "label": _text}
_FIELDS: Mapping[str, Any] = {
    "format": _text,
    "made with": {"torchbcos": _text, "torch": _text, "python": _text},
    "model": {"name": _maybe(_text), "weights": _hash, "parameters": _index, "file": _maybe(_hash), "card": _maybe(_hash)},
    "preprocess": lambda value: value is None or (isinstance(value, dict) and len(value) <= _MOST_SETTINGS),
    "options": {
        "products": _maybe(lambda v: v in ("half", "first", "second")), "output": _maybe(lambda v: _text(v) or _index(v)),
    },
    "picture": _maybe({"name": _text, "sha256": _hash}),
    "input": {"sha256": _hash, "shape": lambda v: _sides(v, 5, 1), "dtype": lambda v: v in _DTYPES},
    "target": _CLASS,
    "contrast": _maybe(_CLASS),
    "value": _number, "contribution": _number, "residual": _number, "share": _maybe(_number),
    "constants": lambda v: _few(v, dict) and all(_text(n) and _number(c) for n, c in v.items()),
    "fixed": lambda v: _few(v, list) and all(map(_text, v)),
    "tolerance": lambda v: _number(v) and 0 < v <= 0.1,
    "map": {
        "shape": lambda v: _sides(v, 4) and math.prod(v) <= _MOST_NUMBERS,
        "scale": lambda v: _number(v) and 0 < v < 1e38,
        "data": lambda v: isinstance(v, str),
    },
}  # fmt: skip


def _fault(value: Any, wanted: Mapping[str, Any], where: str) -> str | None:
    """The first field that is missing, too many, or not of its kind."""
    if not isinstance(value, dict):
        return where
    for name in {**dict.fromkeys(value), **dict.fromkeys(wanted)}:
        place = f"{where}.{name}" if where else str(name)
        if name not in value or name not in wanted:
            return place[:80]
        check = wanted[name]
        found = _fault(value[name], check, place) if isinstance(check, Mapping) else None if check(value[name]) else place
        if found is not None:
            return found
    return None
