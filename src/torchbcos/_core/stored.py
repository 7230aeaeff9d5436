"""Archives of `torch.save` that a stranger may have written: looked at before torch reads them."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from torchbcos._core.names import quote
from torchbcos._core.pickled import ForeignObject, follow

__all__ = ["NotStored", "check_directory", "check_stored", "load_stored", "skip_absent_checksums"]

_LONGEST_DIRECTORY = 8 << 20  # bytes of a zip's list of members
_LONGEST_PROGRAM = 64 << 20  # bytes that describe the tensors: those of a network of 1,000, its average and optimiser take 1 MB


class NotStored(ValueError):
    """The archive is not as `torch.save` writes it; the message ends a sentence that begins with the file's name."""


def check_directory(file: IO[bytes]) -> None:
    """Refuse a zip with a list of members so long that to read it would take minutes and gigabytes.

    Args:
        file: open, at any place; left at its beginning.

    Raises:
        NotStored: the list is longer than that of any network.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    (length,) = struct.unpack_from("<I", tail, end + 12) if end >= 0 else (0,)
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # the long form, which torch always writes
        file.seek(struct.unpack_from("<Q", tail, end - 12)[0] + 40)
        (length,) = struct.unpack("<Q", file.read(8))
    file.seek(0)
    if length > _LONGEST_DIRECTORY:
        raise NotStored("lists more members than any file of weights has: it is no network.")


def check_stored(archive: zipfile.ZipFile, size: int) -> None:
    """Whether no member is compressed, and all together are no larger than the file.

    Raises:
        NotStored: a small file could fill the memory, or its members lie over each other.
    """
    members = archive.infolist()
    if len({info.filename for info in members}) < len(members):
        raise NotStored("holds two members of one name: it was not written by torch.save.")
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise NotStored(
                f"is compressed ({quote(info.filename)}), which torch.save never does: a small file could fill the memory. "
                "Unpack it, load it with torch and save its state_dict() again."
            )
    if sum(info.file_size for info in members) > size:
        raise NotStored("promises more bytes than it has: its members lie over each other.")


def skip_absent_checksums(archive: zipfile.ZipFile) -> None:
    """Read the members without their checksums, if torch wrote none: `torch.serialization.set_crc32_options(False)`.

    Then each of them is 0. One that is 0 among others that are not is checked as usual.
    """
    members = archive.infolist()
    if not any(info.CRC for info in members):
        for info in members:
            info.CRC = None  # type: ignore[assignment]  # as the reader has it where there is none to compare with


def load_stored(path: Path) -> Any:
    """What `torch.save` wrote, as tensors on the CPU and plain values; looked at first, and nothing in it is run.

    Raises:
        NotStored: it is compressed, or promises more than it has.
        Exception: of any class, where it is damaged; torch's readers agree on none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"a": torch.ones(2)}, Path(folder, "a.pt"))
    ...     load_stored(Path(folder, "a.pt"))
    {'a': tensor([1., 1.])}
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("no archive of torch.save")
        check_directory(file)
        with zipfile.ZipFile(file) as archive:
            check_stored(archive, path.stat().st_size)
            skip_absent_checksums(archive)
            _check_program(archive)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_program(archive: zipfile.ZipFile) -> None:
    """Whether every tensor lies inside its storage: torch reads on behind it.

    Raises:
        pickle.UnpicklingError: it names what is not followed, and behind that torch would do what was not looked at.
    """
    for info in archive.infolist():
        if info.filename.endswith("/data.pkl") and info.filename.count("/") == 1:
            if info.file_size > _LONGEST_PROGRAM:
                raise NotStored("describes more tensors than any network has.")
            try:
                follow(archive.read(info))
            except ForeignObject as error:
                raise pickle.UnpicklingError(f"Weights only are loaded, and the file holds {error}.") from None
