"""CIFAR-10 in each of the three forms in which people have it.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images": 50,000 and 10,000 pictures of 32 x 32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchbcos._core.errors import InputError
from torchbcos._core.foreign import foreign, refuse_pointer
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos.data.labelled import Labelled, Split
from torchbcos.pictures.npy import read_npz
from torchbcos.pictures.read import decode_image

__all__ = ["is_cifar10", "open_cifar10"]

_RECORD = 3073  # bytes of a label and of 3 x 32 x 32 numbers
_MOST_BYTES = 2**30  # of one file: forty times what CIFAR-10 has in all
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _MemberReader:
    """JPEG files that share one header, in one array of bytes: 40 MB for what takes 180 in pixels."""

    header: bytes
    data: Any = field(repr=False)
    offsets: Any = field(repr=False)
    source: str = ""

    def __call__(self, i: int) -> Image.Image:
        body = self.data[self.offsets[i] : self.offsets[i + 1]].tobytes()
        return decode_image(self.header + body, f"Picture {i} of {self.source!r}")


@dataclass(frozen=True)
class _PixelReader:
    """Pictures in one uint8 array (N, H, W, 3)."""

    pixels: Any = field(repr=False)

    def __call__(self, i: int) -> Image.Image:
        return Image.fromarray(self.pixels[i])


def is_cifar10(place: Path) -> bool:
    """Whether a folder holds CIFAR-10 in one of its three forms."""
    return _cifar10_form(place) is not None


def _cifar10_form(place: Path) -> tuple[str, Path] | None:
    """The form of CIFAR-10 in a folder, and where exactly it lies."""
    for below in (place, place / "cifar-10-batches-bin"):
        if (below / "data_batch_1.bin").is_file():
            return "binary", below
    for below in (place, place.parent):
        inside = below / "cifar-10-batches-py"
        if inside in (place, place / inside.name) and (inside / "data_batch_1").is_file():
            return "python", below
    if (place / "train.npz").is_file() and (place / "test.npz").is_file():
        return "jpeg", place
    return None


def open_cifar10(place: Path) -> Labelled:
    """CIFAR-10 (Krizhevsky 2009): the 50,000 training pictures, and the 10,000 test pictures as the reported split.

    Raises:
        InputError: a file is broken.
        MissingPackageError: torchvision's form, without torchvision.
    """
    form = _cifar10_form(place)
    if form is None:
        raise InputError(f"{str(place)!r} does not hold CIFAR-10.")
    read = {"binary": _read_binary, "python": _read_torchvision, "jpeg": _read_jpeg}[form[0]]
    with foreign(f"CIFAR-10 in {str(place)!r} cannot be read"):
        train, report = read(form[1], True), read(form[1], False)
    return Labelled(_CLASSES, train, report, kind="cifar10")


def _numbered(part: str, targets: Any, reader: Any) -> Split:
    """A split whose examples are named by number."""
    labels = torch.as_tensor(np.asarray(targets), dtype=torch.long)
    wrong = ((labels < 0) | (labels >= len(_CLASSES))).nonzero()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(f"picture {i} of the {part} part has the label {int(labels[i])}, and there are {len(_CLASSES)} classes")
    return Split([f"{part}/{i}" for i in range(len(labels))], labels, reader, tuple(range(len(labels))))


def _read_binary(place: Path, train: bool) -> Split:
    """The binary version: records of one label and 3,072 bytes, channel by channel."""
    files = [place / f"data_batch_{i}.bin" for i in range(1, 6)] if train else [place / "test_batch.bin"]
    records = np.concatenate([_read_records(file) for file in files])
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _numbered("train" if train else "test", records[:, 0], _PixelReader(np.ascontiguousarray(pixels)))


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as opened:
        refuse_pointer(opened.read(64), quote(file))


def _read_records(file: Path) -> Any:
    """(N, 3073) uint8 of one file."""
    _refuse_pointer(file)
    size = file.stat().st_size
    if not size or size % _RECORD or size > _MOST_BYTES:
        raise ValueError(f"{file.name} has {size:,} bytes, and records have {_RECORD:,} each: it is truncated, or another file")
    return np.fromfile(file, np.uint8).reshape(-1, _RECORD)


def _read_torchvision(place: Path, train: bool) -> Split:
    """The version that torchvision downloads; it checks the hashes before it unpickles."""
    datasets = require("torchvision.datasets", extra="train", why="CIFAR-10 in torchvision's form")
    found = datasets.CIFAR10(str(place), train=train, download=False)
    return _numbered("train" if train else "test", found.targets, _PixelReader(found.data))


def _read_jpeg(place: Path, train: bool) -> Split:
    """`train.npz` or `test.npz`: one JPEG header, bodies, offsets, labels."""
    name = "train" if train else "test"
    _refuse_pointer(place / f"{name}.npz")
    parts = read_npz(place / f"{name}.npz", ("header", "data", "offsets", "labels"), most=_MOST_BYTES)
    offsets, data, labels = (parts[key] for key in ("offsets", "data", "labels"))
    if (
        data.dtype != np.uint8
        or data.ndim != 1
        or labels.ndim != 1
        or offsets.shape != (len(labels) + 1,)
        or not {labels.dtype.kind, offsets.dtype.kind} <= {"i", "u"}
    ):
        raise ValueError(f"the arrays of {name}.npz do not belong together")
    if offsets[0] < 0 or (np.diff(offsets.astype(np.int64)) < 0).any() or offsets[-1] > len(data):
        raise ValueError(f"the offsets of {name}.npz lead out of its data")
    reader = _MemberReader(parts["header"].tobytes(), parts["data"], parts["offsets"], f"{name}.npz")
    return _numbered(name, parts["labels"], reader)
