"""Programs of `torch.export.save` (.pt2): looked into before torch opens them, which may unpickle, and so run, what they hold."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import quote

__all__ = ["load_program"]

# What torch.export.save writes. From torch 2.8 on, all of it stands in one folder of the archive; before, in none. Other
# members exist (compiled libraries in data/aotinductor/), and torch loads them, too.
_FILES = {
    "archive_format", "archive_version", "byteorder", "version", ".format_version", ".storage_alignment",
    "serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt",
}  # fmt: skip
_FOLDERS = (".data/", "models/", "data/weights/", "data/constants/", "data/sample_inputs/", "extra/", "extra_files/")
_TENSORS = ("weight_", "tensor_")  # how the files of tensors are called, which are no pickles
_ADVICE = "Export the classifier again, with tensors as its only weights and inputs, by torch.export.save of torch 2.8 or later."


def load_program(path: Path) -> nn.Module:
    """A classifier that `torch.export.save` wrote.

    A program is code: it computes what its maker wrote. But opening it runs nothing else: what torch would unpickle is read as
    tensors first, and torch is given what was looked at, not the file.

    Raises:
        MissingFileError: there is none.
        InputError: the file is something else, or holds what would run when it is opened.
    """
    try:
        if not path.is_file():
            raise MissingFileError(f"There is no teacher {quote(path)}.")
        archive = _checked(path)
        return torch.export.load(archive).module()
    except BcosError:
        raise
    except Exception as error:  # of any class: torch's readers agree on none
        said = shorten(" ".join(str(error).split()), 160)
        raise InputError(f"The teacher {quote(path)} is no program of torch.export.save: {said}") from error


def _checked(path: Path) -> io.BytesIO:
    """The members of an archive that were looked at, as an archive of their own.

    Raises:
        InputError: one of them is, or may be, code.
    """
    checked = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(checked, "w", zipfile.ZIP_STORED) as copy:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise _refused(path, "a member twice, of which one could be looked at and the other opened")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise _refused(path, f"{quote(member.filename)} compressed, which torch.export.save never writes")
            data = archive.read(member)
            _check_member(path, member.filename, data)
            copy.writestr(member.filename, data)
    checked.seek(0)
    return checked


def _check_member(path: Path, name: str, data: bytes) -> None:
    """Look at one member.

    Raises:
        InputError: it is, or may be, code.
    """
    inner = name if _is_known(name) else name.partition("/")[2]
    if ".." in name.split("/") or not _is_known(inner):
        raise _refused(path, f"{quote(name)}, which is no part of a program's graph and weights")
    if inner.endswith("_config.json"):
        _check_config(path, name, json.loads(data))
    elif inner.endswith(".pt"):
        _check_pickle(path, name, data)
    elif inner.startswith("data/") and not inner.rpartition("/")[2].startswith(_TENSORS):
        raise _refused(path, f"{quote(name)}, which is no tensor")


def _is_known(name: str) -> bool:
    return name in _FILES or name.startswith(_FOLDERS)


def _check_config(path: Path, name: str, config: Any) -> None:
    """Look at a list of tensors, which says how each is read.

    Raises:
        InputError: one is unpickled.
    """
    for entry in config["config"].values():
        if entry.get("use_pickle") is not False or not str(entry["path_name"]).startswith(_TENSORS):
            raise _refused(path, f"a Python object ({quote(entry['path_name'])}, says {quote(name)})")


def _check_pickle(path: Path, name: str, data: bytes) -> None:
    """Read a pickle as tensors and plain values only; torch itself reads it without that limit.

    Raises:
        InputError: it holds anything else.
    """
    if not data:  # an export without example inputs
        return
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                if any(member.compress_type != zipfile.ZIP_STORED for member in inner.infolist()):
                    raise _refused(path, f"{quote(name)} compressed, which torch.save never writes")
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except BcosError:
        raise
    except Exception as error:
        raise _refused(path, f"Python objects or code in {quote(name)}") from error


def _refused(path: Path, what: str) -> InputError:
    """What is said of an archive that is not opened."""
    return InputError(f"The teacher {quote(path)} holds {what}, and is not opened: that could run code. {_ADVICE}")
