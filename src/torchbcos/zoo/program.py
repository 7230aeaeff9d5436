"""Programs of `torch.export.save` (.pt2): looked into before torch opens them, which may unpickle, and so run, what they hold."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import quote
from torchbcos.pictures import Preprocess

__all__ = ["Program", "load_program", "open_program"]

# What torch.export.save writes. From torch 2.8 on, all of it stands in one folder of the archive; before, in none. Other
# members exist (compiled libraries in data/aotinductor/), and torch loads them, too.
_FILES = {
    "archive_format", "archive_version", "byteorder", "version", ".format_version", ".storage_alignment",
    "serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt",
}  # fmt: skip
_FOLDERS = (".data/", "models/", "data/weights/", "data/constants/", "data/sample_inputs/", "extra/", "extra_files/")
_TENSORS = ("weight_", "tensor_")  # how the files of tensors are called, which are no pickles
_ADVICE = "Export the classifier again, with tensors as its only weights and inputs, by torch.export.save of torch 2.8 or later."


def load_program(path: Path, what: str = "teacher") -> nn.Module:
    """A classifier that `torch.export.save` wrote, as a module; arguments as `open_program`."""
    with _no_other_error(path, what):
        return open_program(path, what).module()


def open_program(path: Path, what: str = "teacher") -> torch.export.ExportedProgram:
    """What `torch.export.save` wrote.

    A program is code: it computes what its maker wrote. But opening it runs nothing else: what torch would unpickle is read as
    tensors first, and torch is given what was looked at, not the file.

    Args:
        path: of the file.
        what: it is called in messages.

    Raises:
        MissingFileError: there is none.
        InputError: the file is something else, or holds what would run when it is opened.
    """
    with _no_other_error(path, what):
        if not path.is_file():
            raise MissingFileError(f"There is no {what} {quote(path)}.")
        try:
            archive = _checked(path)
        except _Refused as found:
            raise InputError(
                f"The {what} {quote(path)} holds {found}, and is not opened: that could run code. {_ADVICE}"
            ) from found.__cause__
        return torch.export.load(archive)


class _Refused(Exception):
    """An archive holds something that is, or may be, code: the message says what."""


@contextlib.contextmanager
def _no_other_error(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except BcosError:
        raise
    except Exception as error:  # of any class: torch's readers agree on none
        said = shorten(" ".join(str(error).split()), 160)
        raise InputError(f"The {what} {quote(path)} is no program of torch.export.save: {said}") from error


def _checked(path: Path) -> io.BytesIO:
    """The members of an archive that were looked at, as an archive of their own.

    Raises:
        _Refused: one of them is, or may be, code.
    """
    checked = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(checked, "w", zipfile.ZIP_STORED) as copy:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise _Refused("a member twice, of which one could be looked at and the other opened")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise _Refused(f"{quote(member.filename)} compressed, which torch.export.save never writes")
            data = archive.read(member)
            _check_member(member.filename, data)
            copy.writestr(member.filename, data)
    checked.seek(0)
    return checked


def _check_member(name: str, data: bytes) -> None:
    """Look at one member.

    Raises:
        _Refused: it is, or may be, code.
    """
    inner = name if _is_known(name) else name.partition("/")[2]
    if ".." in name.split("/") or not _is_known(inner):
        raise _Refused(f"{quote(name)}, which is no part of a program's graph and weights")
    if inner.endswith("_config.json"):
        _check_config(name, json.loads(data))
    elif inner.endswith(".pt"):
        _check_pickle(name, data)
    elif inner.startswith("data/") and not inner.rpartition("/")[2].startswith(_TENSORS):
        raise _Refused(f"{quote(name)}, which is no tensor")


def _is_known(name: str) -> bool:
    return name in _FILES or name.startswith(_FOLDERS)


def _check_config(name: str, config: Any) -> None:
    """Look at a list of tensors, which says how each is read.

    Raises:
        _Refused: one is unpickled.
    """
    for entry in config["config"].values():
        if entry.get("use_pickle") is not False or not str(entry["path_name"]).startswith(_TENSORS):
            raise _Refused(f"a Python object ({quote(entry['path_name'])}, says {quote(name)})")


def _check_pickle(name: str, data: bytes) -> None:
    """Read a pickle as tensors and plain values only; torch itself reads it without that limit.

    Raises:
        _Refused: it holds anything else.
    """
    if not data:  # an export without example inputs
        return
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                if any(member.compress_type != zipfile.ZIP_STORED for member in inner.infolist()):
                    raise _Refused(f"{quote(name)} compressed, which torch.save never writes")
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _Refused:
        raise
    except Exception as error:
        raise _Refused(f"Python objects or code in {quote(name)}") from error


class Program(nn.Module):
    """A program as a network: any number of images, also where it was exported for one number of them.

    Args:
        program: with one input, (N, C, H, W).
        named: what messages call it.
        device: where it runs.

    Attributes:
        preprocess: pixels in [0, 1], of the size that it takes.

    Raises:
        InputError: it takes something else.
    """

    def __init__(self, program: torch.export.ExportedProgram, named: str, device: torch.device) -> None:
        super().__init__()
        shape = _input_shape(program, named)
        sides = [side if isinstance(side, int) else None for side in shape[2:]]
        channels = shape[1] if isinstance(shape[1], int) else 3
        square = sides[0] if sides[0] == sides[1] else None
        self.preprocess = Preprocess(resize=square, crop=square, encoding="none", raw_channels=channels)
        self.count = shape[0] if isinstance(shape[0], int) else None
        moved = program if device.type == "cpu" else move_to_device_pass(program, device)
        self.graph = moved.module()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pixels (N, C, H, W); of a program for a number of images, in groups of that many."""
        if self.count is None or self.count == len(x):
            found: Tensor = self.graph(x)
            return found
        left = -len(x) % self.count
        whole = torch.cat([x, x[-1:].expand(left, *x.shape[1:])]) if left else x  # what fills the last group up is cut off again
        parts = [self.graph(whole[start : start + self.count]) for start in range(0, len(whole), self.count)]
        return torch.cat(parts)[: len(x)]

    def train(self, mode: bool = True) -> Program:
        """A program knows one mode, that of its export."""
        self.training = mode
        return self


def _input_shape(program: torch.export.ExportedProgram, named: str) -> tuple[Any, ...]:
    """The shape of the one input of a program; of axes of any length a symbol stands there.

    Raises:
        InputError: it takes something else than images.
    """
    inputs = set(program.graph_signature.user_inputs)
    shapes = [getattr(node.meta.get("val"), "shape", ()) for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or len(program.graph_signature.user_outputs) != 1:
        raise InputError(
            f"The program {quote(named)} does not take images alone and give logits alone: a classifier takes (N, C, H, W), "
            "pixels in [0, 1], and gives (N, classes). What 'torchbcos export' writes explains by itself (docs/how-to/export.md)."
        )
    return tuple(shapes[0])
