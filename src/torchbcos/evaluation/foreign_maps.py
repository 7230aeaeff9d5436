"""Maps that another library wrote, one `.npy` file for each picture and class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import quote
from torchbcos.pictures.npy import load_array

__all__ = ["map_file", "read_map"]


def map_file(folder: Path, name: str, target: int) -> Path:
    """Where the map of a picture and a class lies: `cats/1.jpg.281.npy`; of a shard, the member's path.

    >>> map_file(Path("maps"), "val-0000.tar/n01/a.jpg", 3).as_posix()
    'maps/n01/a.jpg.3.npy'
    """
    inner = name.partition(".tar/")[2] or name
    return folder / f"{inner}.{target}.npy"


def read_map(folder: Path, name: str, target: int, size: Sequence[int]) -> Tensor:
    """(H, W) float32: one map, enlarged to the picture that the network sees (bilinear) where it is smaller.

    Raises:
        MissingFileError: there is none.
        InputError: it is no map of finite numbers.
    """
    file = map_file(folder, name, target)
    if not file.is_file():
        raise MissingFileError(f"There is no map {quote(file)} of this picture and class.")
    found = torch.from_numpy(np.asarray(load_array(file), dtype=np.float32))
    found = found[0] if found.dim() == 3 and len(found) == 1 else found
    if found.dim() != 2 or not found.numel() or not bool(found.isfinite().all()):
        raise InputError(f"{quote(file)} is no map (H, W) of finite numbers: it has shape {tuple(found.shape)}.")
    if tuple(found.shape) == tuple(size):
        return found
    return F.interpolate(found[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
