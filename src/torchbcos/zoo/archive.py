"""Files of weights: what they hold, said before anything is allocated, and the tensors themselves.

Three formats: `.safetensors`; the zip archives of `torch.save`; and what `torch.save` wrote before torch 1.6. Each is looked at
first: names, dtypes, shapes, and whether the numbers that it promises are there, as many bytes as the file has and no more.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, MissingFileError, WeightsError, shorten
from torchbcos._core.foreign import is_pointer
from torchbcos._core.names import quote
from torchbcos._core.pickled import Entry, ForeignObject, Storage, follow, tensors_in
from torchbcos._core.stored import NotStored, check_directory, check_stored, skip_absent_checksums
from torchbcos.zoo.fields import parse_json

__all__ = ["WeightsFile", "entry_of", "is_file", "open_weights", "pointer_fault", "refuse_foreign"]

# What readers of damaged files were seen to raise.
_READ_ERRORS = (
    safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, OSError,
    zipfile.BadZipFile, AttributeError, TypeError, AssertionError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
_LONGEST_HEADER = 16 << 20  # bytes that list the tensors: those of a network of 1,000 take 100,000
_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save began with before torch 1.6
_READABLE = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_SAFE_KINDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that was looked at.

    Attributes:
        path: of the file.
        entries: its tensors by name: dtype and shape.
        read_all: reads the tensors.
        stamp: which file it was, when it was looked at.
    """

    path: Path
    entries: Mapping[str, Entry]
    read_all: Callable[[], dict[str, Tensor]]
    stamp: tuple[int, ...]

    def read(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU.

        Raises:
            WeightsError: a tensor is of a kind that is not read; the file is damaged, or changed since it was looked at.
        """
        for name, entry in self.entries.items():
            if entry.kind not in _READABLE:
                raise WeightsError(f"{self.path.name}: the tensor {quote(name)} is {entry.kind}, and only floats are weights.")
        with _one_sentence(self.path):
            found = self.read_all()
            if _stamp(self.path) != self.stamp:
                raise WeightsError(f"{self.path.name} was written again while it was read: load it once more.")
            return found


def _stamp(path: Path) -> tuple[int, ...]:
    """Size, time of change and inode: a file that is written again has others."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def entry_of(tensor: Tensor) -> Entry:
    """What an `Entry` says of a tensor that is there.

    >>> entry_of(torch.zeros(2, 3)), entry_of(torch.eye(2).to_sparse()).kind
    (Entry(kind='float32', shape=(2, 3), storage=None, offset=0, strides=()), 'sparse')
    """
    if not isinstance(tensor, Tensor):
        return Entry(f"no tensor but a {type(tensor).__name__}")
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return Entry(f"a {type(tensor).__name__}, no plain tensor")
    if tensor.layout != torch.strided:
        return Entry("sparse")
    if tensor.is_quantized:
        return Entry("quantised")
    if tensor.is_meta:
        return Entry("meta, without numbers")
    return Entry(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def is_file(path: Path) -> bool:
    """Whether there is a file; False for what can be no file's name (too long, say)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_weights(path: Path) -> WeightsFile:
    """Look at a .safetensors file, or one of `torch.save`; nothing of it is run.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: empty, truncated, HTML, code beside tensors, compressed, or not a state dict.
    """
    if not is_file(path):
        raise MissingFileError(f"There is no weights file {quote(path)}.")
    with _one_sentence(path), path.open("rb") as file:
        stamp = _stamp(path)
        head = file.read(512)
        file.seek(0)
        if not head:
            raise WeightsError(f"{path.name} is empty: download it again.")
        if head.lstrip()[:1] == b"<":
            raise WeightsError(f"{path.name} is a web page, not weights: the download was redirected; fetch the file itself.")
        if (fault := pointer_fault(head)) is not None:
            raise WeightsError(f"{path.name} {fault}")
        if path.suffix == ".safetensors":
            return WeightsFile(path, *_open_safetensors(path, file), stamp)
        if head.startswith(b"PK"):
            return WeightsFile(path, *_open_zip(path, file), stamp)
        if head.startswith(b"\x80"):  # a pickle
            return WeightsFile(path, *_open_legacy(path, file), stamp)
        if head[257:262] == b"ustar":
            raise WeightsError(f"{path.name} is a tar file of torch's first versions: torch.load it there, and save it again.")
    raise WeightsError(f"{path.name} is damaged or no weights file: download it again.")


def refuse_foreign(weights: object, instead: str = "official weights are pretrained=True here") -> None:
    """Refuse what torchvision calls weights.

    Args:
        weights: what a caller gave.
        instead: of its words.

    Raises:
        ArgumentTypeError: `weights` is one of its words, or no path at all.

    >>> refuse_foreign("resnet18.pth")
    """
    if not isinstance(weights, str | os.PathLike | None) or weights in ("DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2"):
        what = shorten(str(weights), 80)
        raise ArgumentTypeError(f"weights is a file or a folder, not {what!r}: {instead}.")


def pointer_fault(head: bytes) -> str | None:
    """What is wrong with a file that begins like this, as the rest of a sentence, if it only points to the real one.

    >>> pointer_fault(b"version https://git-lfs.github.com/spec/v1")[:40]
    'is only a pointer of Git LFS, not the fi'
    """
    if not is_pointer(head):
        return None
    return "is only a pointer of Git LFS, not the file that it stands for: run 'git lfs pull' there, or download the file itself."


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """What reading a damaged file raises becomes one sentence."""
    try:
        yield
    except WeightsError:
        raise
    except ForeignObject as error:
        raise WeightsError(
            f"{path.name} holds Python objects or code beside tensors ({error}), which torchbcos does not run: save its "
            "state_dict alone, or use the official file."
        ) from None
    except _READ_ERRORS:
        raise WeightsError(f"{path.name} is truncated or damaged: download it again.") from None


# -- safetensors -----------------------------------------------------------------------------------------------------------


_Opened = tuple[Mapping[str, Entry], Callable[[], dict[str, Tensor]]]


def _open_safetensors(path: Path, file: IO[bytes]) -> _Opened:
    size = path.stat().st_size
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - 8:
        raise ValueError("a header beyond the file")
    if length > _LONGEST_HEADER:
        raise WeightsError(
            f"{path.name} has a header of {length:,} bytes, more than the {_LONGEST_HEADER:,} that are read: it is no network."
        )
    header = parse_json(file.read(length).decode("utf-8"))
    header.pop("__metadata__", None)
    entries = {
        name: Entry(_SAFE_KINDS.get(part["dtype"], str(part["dtype"]).lower()), tuple(part["shape"]))
        for name, part in header.items()
    }
    return entries, lambda: load_file(path)  # which compares offsets and sizes with the file, and what lies between them


# -- torch.save ------------------------------------------------------------------------------------------------------------


def _open_zip(path: Path, file: IO[bytes]) -> _Opened:
    _named(path, check_directory, file)
    with zipfile.ZipFile(file) as archive:
        members = _members(path, archive)
        program = next((name for name in members if name.endswith("/data.pkl") and name.count("/") == 1), None)
        if program is None:
            raise WeightsError(f"{path.name} is a zip file, but not one that torch.save wrote: it holds no weights.")
        root = program.removesuffix("data.pkl")
        if (order := members.get(f"{root}byteorder")) is not None and archive.read(order) != b"little":
            raise WeightsError(f"{path.name} was saved on a big-endian machine: save it as .safetensors there.")
        entries = tensors_in(follow(archive.read(members[program])))
    _check_entries(path, entries, {name.removeprefix(f"{root}data/"): info.file_size for name, info in members.items()})

    def read(key: str, into: memoryview, archive: zipfile.ZipFile) -> None:
        with archive.open(f"{root}data/{key}") as member:
            _read_into(member, into)

    def read_all() -> dict[str, Tensor]:
        with zipfile.ZipFile(path) as archive:
            _members(path, archive)
            return _tensors(entries or {}, lambda storage, into: read(storage.key, into, archive))

    return entries or {}, read_all


def _named(path: Path, check: Callable[..., None], *arguments: Any) -> None:
    """A check of an archive, whose complaint begins with the file's name."""
    try:
        check(*arguments)
    except NotStored as error:
        raise WeightsError(f"{path.name} {error}") from None


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip by name: as torch stores them, none of them compressed, and together no larger than the file."""
    members = {info.filename: info for info in archive.infolist()}
    for name in members:
        leaf = name.partition("/")[2]
        if leaf.startswith("code/") or leaf == "constants.pkl":
            raise WeightsError(
                f"{path.name} is a TorchScript archive: a program, not weights. Save the state_dict() of its network instead."
            )
        if leaf == "archive_format" or name.endswith("serialized_exported_program.json"):
            raise WeightsError(f"{path.name} is an exported program (.pt2), not weights: save the state_dict() of its network.")
    _named(path, check_stored, archive, path.stat().st_size)
    program = max((info.file_size for name, info in members.items() if name.endswith("/data.pkl")), default=0)
    if program > _LONGEST_HEADER:
        raise WeightsError(
            f"{path.name} lists its tensors in {program:,} bytes, more than the {_LONGEST_HEADER:,} that are read: it is no "
            "network."
        )
    skip_absent_checksums(archive)
    return members


def _open_legacy(path: Path, file: IO[bytes]) -> _Opened:
    """The format before torch 1.6: four pickles, the names of the storages, and the storages one after the other."""
    storages: dict[str, Storage] = {}
    programs = io.BytesIO(
        file.read(min(_LONGEST_HEADER, path.stat().st_size))
    )  # no more: one text of a pickle may be as long as its file
    if follow(programs) != _MAGIC:
        raise ValueError("another pickle")
    _, system, state, keys = (follow(programs, storages) for _ in range(4))
    if not system["little_endian"]:
        raise WeightsError(f"{path.name} was saved on a big-endian machine: save it as .safetensors there.")
    entries, places, sizes, place = tensors_in(state), {}, {}, programs.tell()
    for key in keys:
        if not isinstance(key, str):  # a nested one may take for ever to look for
            raise ValueError("a storage without a name")
        file.seek(place)
        (count,) = struct.unpack("<q", file.read(8))
        size = 1 if storages[key].kind == "quantised" else _dtype(storages[key].kind).itemsize
        places[key], sizes[key] = place + 8, count * size
        place += 8 + sizes[key]
    if place > path.stat().st_size:
        raise ValueError("storages beyond the file")
    _check_entries(path, entries, sizes)

    def read_all() -> dict[str, Tensor]:
        with path.open("rb") as file:

            def read(storage: Storage, into: memoryview) -> None:
                file.seek(places[storage.key])
                _read_into(file, into)

            return _tensors(entries or {}, read)

    return entries or {}, read_all


def _check_entries(path: Path, entries: Mapping[str, Entry] | None, sizes: Mapping[str, int]) -> None:
    """Whether this is a state dict whose storages are as long as it says."""
    if entries is None:
        raise WeightsError(f"{path.name} is not a state dict (names with tensors).")
    for entry in entries.values():
        storage = entry.storage
        if (
            storage is not None
            and storage.kind in _READABLE
            and storage.count * _dtype(storage.kind).itemsize != sizes[storage.key]
        ):
            raise ValueError("a storage of another size")


def _tensors(entries: Mapping[str, Entry], read: Callable[[Storage, memoryview], None]) -> dict[str, Tensor]:
    """The tensors of a state dict; those that share a storage share it again."""
    read_already: dict[Storage, Tensor] = {}
    found = {}
    for name, entry in entries.items():
        storage = entry.storage
        if storage is None:
            raise ValueError("no numbers")
        if storage not in read_already:
            numbers = torch.empty(storage.count, dtype=_dtype(storage.kind))
            read(storage, numbers.view(torch.uint8).numpy().data)
            read_already[storage] = numbers
        found[name] = read_already[storage].as_strided(entry.shape, entry.strides, entry.offset)
    return found


def _dtype(kind: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, kind)
    return found


def _read_into(file: Any, into: memoryview) -> None:
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])
        if not count:
            raise EOFError
        done += count
