"""Maps that another library wrote, one `.npy` file for each picture and class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import quote
from torchbcos.pictures.npy import load_array

__all__ = ["Found", "Inventory", "inventory", "map_file", "read_map"]

_SUFFIX = ".npy"
_EVEN = 0.02  # by which a map may be longer or wider in proportion than the picture: a pixel of a small one


class Found(NamedTuple):
    """A map (H, W) float32 of the size that was asked for, and whether it had another one."""

    map: Tensor
    resized: bool


@dataclass(frozen=True)
class Inventory:
    """What lies in a folder of maps.

    Attributes:
        files: how many maps there are.
        unknown: names of those that belong to no picture of the split, or to no class.
    """

    files: int
    unknown: tuple[str, ...]


def _inner_name(name: str) -> str:
    """What a map is called by: the name of a picture, or of a shard's member."""
    return name.partition(".tar/")[2] or name


def map_file(folder: str | os.PathLike[str], name: str, target: int) -> Path | None:
    """Where the map of a picture and a class lies: `cats/1.jpg.281.npy`; of a shard, the member's path.

    None for pictures whose name leads out of the folder: a table may list them by absolute paths, or with "..".

    >>> map_file("maps", "val-0000.tar/n01/a.jpg", 3).as_posix(), map_file("maps", "../a.jpg", 3)
    ('maps/n01/a.jpg.3.npy', None)
    """
    inner = _inner_name(name)
    parts = PurePosixPath(inner)
    if parts.is_absolute() or Path(inner).is_absolute() or ".." in parts.parts or "\0" in inner:
        return None
    return Path(folder) / f"{inner}.{target}{_SUFFIX}"


def inventory(folder: str | os.PathLike[str], names: Iterable[str], classes: int) -> Inventory:
    """Look through a folder of maps; links to folders are not followed.

    Raises:
        MissingFileError: there is no such folder.
        InputError: no map lies in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"There is no folder of maps {quote(root)}.")
    known = {_inner_name(name) for name in names}
    files, unknown = 0, []
    for place, _, inside in os.walk(root):
        for file in inside:
            if not file.endswith(_SUFFIX) or file.startswith("."):
                continue
            files += 1
            relative = Path(place, file).relative_to(root).as_posix()
            name, _, target = relative.removesuffix(_SUFFIX).rpartition(".")
            if name not in known or not (target.isascii() and target.isdigit() and len(target) < 10 and int(target) < classes):
                unknown.append(relative)
    if not files:
        raise InputError(
            f"There is no map in {quote(root)}: they are called PICTURE.CLASS{_SUFFIX}, where PICTURE is its path in the data "
            f"with its suffix and CLASS the index in the model's order, as cats/1.jpg.281{_SUFFIX}."
        )
    return Inventory(files, tuple(sorted(unknown)))


def read_map(folder: str | os.PathLike[str], name: str, target: int, size: Sequence[int]) -> Found | None:
    """One map, made as large as the picture that the network sees (bilinear); None: there is none.

    Raises:
        InputError: it is no map (H, W) of finite numbers, or of another form than the picture.
    """
    file = map_file(folder, name, target)
    if file is None or not os.path.lexists(file):
        return None
    stored = load_array(file)
    stored = stored[0] if stored.ndim == 3 and len(stored) == 1 else stored
    if stored.ndim != 2:
        raise InputError(f"{quote(file)} is no map (H, W): it has shape {tuple(stored.shape)}.")
    found = torch.from_numpy(np.array(stored, dtype=np.float32))
    if not bool(found.isfinite().all()):
        raise InputError(f"{quote(file)} is no map of finite numbers: it has NaN or infinity.")
    height, width = (int(side) for side in size)
    if tuple(found.shape) == (height, width):
        return Found(found, False)
    if abs(found.shape[0] * width / (found.shape[1] * height) - 1) > _EVEN:
        raise InputError(
            f"{quote(file)} has {found.shape[0]} x {found.shape[1]} numbers, and the network sees {height} x {width} pixels: "
            "give maps of what it sees, cut as the picture is."
        )
    smaller = found.shape[0] > height
    return Found(F.interpolate(found[None, None], (height, width), mode="bilinear", antialias=smaller)[0, 0], True)
