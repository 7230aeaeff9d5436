"""Records in one file whose every byte counts: JSON in one spelling only, with a checksum of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import read_whole, replacing
from torchbcos._core.names import quote

__all__ = ["canonical", "read_sealed", "seal", "write_sealed"]

_SEAL = "sha256"
_MOST_DIGITS = 40


def canonical(record: Mapping[str, Any]) -> bytes:
    """The one spelling of a record: names in order, no blanks, ASCII, no NaN.

    >>> canonical({"b": [1.5, None], "a": "é"})
    b'{"a":"\\\\u00e9","b":[1.5,null]}'
    """
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def seal(record: Mapping[str, Any]) -> bytes:
    """The bytes of a file: the record with its checksum, and a line's end.

    >>> seal({"a": 1})[:20]
    b'{"a":1,"sha256":"015'
    """
    body = {name: value for name, value in record.items() if name != _SEAL}
    return canonical({**body, _SEAL: hashlib.sha256(canonical(body)).hexdigest()}) + b"\n"


def write_sealed(path: Path, record: Mapping[str, Any], *, limit: int) -> Path:
    """Write a sealed record; an earlier file is replaced at once or not at all.

    Raises:
        InputError: it has more bytes than anybody reads.
        MissingFileError: there is no such folder.
        StateError: it could not be written.
    """
    data = seal(record)
    if len(data) > limit:
        raise InputError(f"{quote(path)} would have {len(data) / 2**20:,.0f} MB, and more than {limit // 2**20} are not read.")
    if not path.parent.is_dir():
        raise MissingFileError(f"The folder {quote(path.parent)} does not exist; make it before saving there.")
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StateError(f"Could not write {quote(path)}: {reason}. Nothing was left behind.") from error
    return path


def read_sealed(path: Path, *, limit: int, what: str) -> dict[str, Any]:
    """The record of a file, without its checksum, which fits.

    Args:
        path: of the file, which a stranger may have made.
        limit: bytes that are read at most.
        what: such a file is, "proof" say.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is none of these, or one byte of it is not as it was written.
    """
    try:
        data = read_whole(path, limit)
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {quote(path)}.") from None
    except OSError as error:
        raise InputError(f"{quote(path)} cannot be read: {error.strerror or type(error).__name__}.") from None
    try:
        found = json.loads(data.decode("ascii"), parse_int=_integer)
    except (ValueError, RecursionError):
        raise InputError(f"{quote(path)} is no {what}, or was changed: it cannot be read as JSON.") from None
    if not isinstance(found, dict) or not isinstance(found.get(_SEAL), str):
        raise InputError(f"{quote(path)} is no {what}: it has no checksum.")
    body = {name: value for name, value in found.items() if name != _SEAL}
    try:
        same = seal(body) == data
    except (ValueError, RecursionError):  # NaN, which JSON has not
        same = False
    if not same:
        raise InputError(
            f"{quote(path)} was changed after it was written, or is damaged: its checksum does not fit what it says."
        )
    return body


def _integer(word: str) -> int:
    if len(word) > _MOST_DIGITS:
        raise ValueError("a number of many digits")
    return int(word)
