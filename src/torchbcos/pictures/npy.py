"""Arrays in files: the header of a `.npy` is judged before memory is taken, and nothing in it is ever unpickled.

The format: numpy's NEP 1, versions 1.0 and 2.0 (3.0 is for the names of structured types alone).
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import quote
from torchbcos.pictures.arrays import array_note, as_numbers
from torchbcos.pictures.samples import Range, check_range, warn_once

__all__ = ["MAX_NUMBERS", "load_array", "read_array", "read_npz"]

MAX_NUMBERS = 2**28  # of an array that becomes an input: a gigabyte as float32
_MAX_BYTES = 2**31  # of the arrays in one `.npz`
_MAX_HEADER = 2000  # letters: ours take 128, and Python's parser is no friend of long expressions
_KINDS = {"O": "Python objects, which would have to be unpickled", "V": "a structure of several fields", "c": "complex numbers",
          "U": "text", "S": "text", "M": "dates", "m": "spans of time"}  # fmt: skip


def read_array(path: str | os.PathLike[str], *, value_range: Range | None = None) -> Tensor:
    """A `.npy` file (C, *S) of floats in [0, 1], or of bytes (divided by 255), as float32; (L,) gets a channel.

    Args:
        path: of the file, whatever byte order and memory order it has.
        value_range: the numbers that become 0 and 1; what lies outside is cut to these ends.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no array of real numbers in [0, 1] with one to three axes of space, or more than MAX_NUMBERS.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.array([[0, 2048, 4095]], np.uint16))
    ...     read_array(f"{folder}/a.npy", value_range=(0, 4095)).round(decimals=2)
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    limits, array = check_range(value_range), load_array(path)
    numbers = as_numbers(array, quote(path), limits)
    warn_once(array_note(array, quote(path), limits, stored=True))
    return numbers[None] if numbers.dim() == 1 else numbers


def load_array(path: str | os.PathLike[str] | BinaryIO, name: str | None = None) -> NDArray[Any]:
    """The numbers of a `.npy` file as they are stored; one to four axes.

    Args:
        path: of the file, or its bytes in memory (`io.BytesIO`).
        name: what messages call it; None: its path.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no array of real numbers, or more than MAX_NUMBERS.
    """
    if isinstance(path, (str, os.PathLike)):
        name = quote(path)
        array = _read(path, name)
    else:
        name = name or "The file"
        with _refusing(name, ".npy file"):
            array = _array(path, path.seek(0, os.SEEK_END), name)
    if array.dtype.kind not in "fiub" or not 1 <= array.ndim <= 4 or 0 in array.shape:
        raise InputError(f"{name} contains {array.dtype} of shape {array.shape}; supported: numbers of shape (C, *S).")
    return array


def read_npz(path: str | os.PathLike[str], wanted: Sequence[str], *, most: int = _MAX_BYTES) -> Mapping[str, NDArray[Any]]:
    """Arrays by name from an `.npz` archive; those of other names are not looked at.

    Args:
        path: of the archive.
        wanted: names of arrays.
        most: bytes that they may have together.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no such archive, an array is missing, holds objects, or all together are too large.
    """
    name, found = quote(path), dict[str, NDArray[Any]]()
    with _refusing(name, ".npz archive"), zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        size = sum(members[f"{key}.npy"].file_size for key in wanted if f"{key}.npy" in members)
        if size > most:
            raise InputError(f"{name} would unpack to more than {most:,} bytes: it has {size:,}.")
        missing = [key for key in wanted if f"{key}.npy" not in members]
        if missing:
            raise InputError(f"{name} holds no array {missing[0]!r}; it should hold {', '.join(wanted)}.")
        for key in wanted:
            member = members[f"{key}.npy"]
            with archive.open(member) as file:
                _judge(file, member.file_size, f"{key!r} in {name}", most)
            with archive.open(member) as file:
                found[key] = npy.read_array(file, allow_pickle=False)
    return found


def _read(path: str | os.PathLike[str], name: str) -> NDArray[Any]:
    """The array in a file, as it is stored."""
    with _refusing(name, ".npy file"):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name} is no regular file: copy the array into a file first.")
        with open(path, "rb") as file:
            if file.read(4).startswith(b"PK\x03\x04"):
                raise InputError(f"{name} is an .npz archive under another name: save each of its arrays with numpy.save.")
            return _array(file, found.st_size, name)


def _array(file: Any, size: int, name: str) -> NDArray[Any]:
    """The array in an open file of that size."""
    file.seek(0)
    _judge(file, size, name, MAX_NUMBERS)
    file.seek(0)
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _judge(file: Any, size: int, name: str, most: int) -> None:
    """Refuse an array by its header, before any memory is taken for it."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{name} is of version {version[0]}.{version[1]} of the format; supported: 1.0 and 2.0. Save it anew.")
    begin = file.tell()
    length = int.from_bytes(file.read(2 * version[0]), "little")
    if length > _MAX_HEADER:  # numpy would read it whole before it asks
        raise InputError(f"{name} has a header of {length:,} bytes, more than the {_MAX_HEADER:,} of any array: copy it again.")
    file.seek(begin)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file, max_header_size=_MAX_HEADER)
    if dtype.hasobject or dtype.kind in _KINDS:
        what = _KINDS["O" if dtype.hasobject else dtype.kind]
        raise InputError(f"{name} is no .npy file that can be read: it holds {what}; supported: numbers of shape (C, *S).")
    if any(side < 0 for side in shape):
        raise InputError(f"{name} has a negative length in its shape {shorten(str(shape), 80)}.")
    count = math.prod(shape)
    if count > most:
        raise InputError(f"{name} has {shorten(f'{count:,}', 40)} numbers, more than the {most:,} that are read.")
    rest = size - file.tell() - count * dtype.itemsize
    if rest < 0:
        raise InputError(f"{name} ends early: its header says {count:,} numbers, {-rest:,} bytes are missing. Copy it again.")
    if rest > 0:
        raise InputError(f"{name} holds {rest:,} bytes after its array: save one array in a file.")


@contextlib.contextmanager
def _refusing(name: str, what: str) -> Iterator[None]:
    """Whatever numpy and zipfile raise on broken bytes becomes one sentence."""
    try:
        yield
    except BcosError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{name} does not exist.") from None
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory.") from error
    except Exception as error:
        why = shorten(" ".join(str(error).split()) or type(error).__name__, 160).rstrip(".")
        raise InputError(f"{name} is no {what} that can be read: {why}.") from error
