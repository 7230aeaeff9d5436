"""Pictures of which nobody says what they show, and what tells one set of pictures from another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from torchbcos._core.errors import BcosError, InputError
from torchbcos.data.copies import copies_among, with_twins
from torchbcos.data.labelled import Labelled, Split, Stored, file_split
from torchbcos.data.sources import open_labelled
from torchbcos.pictures.find import find_images

__all__ = ["contents", "open_pictures"]


def open_pictures(data: str | os.PathLike[str], *, labelled: bool) -> Labelled:
    """Labelled data; or, where labels are not needed, all pictures below a folder that has none.

    Raises:
        MissingFileError, InputError: see `torchbcos.data.open_labelled`; or several labels may hold at once, and are needed.
    """
    try:
        found = open_labelled(data)
    except InputError:
        if labelled or not Path(data).is_dir():
            raise
        return _plain_folder(Path(data))
    if found.multi_label and labelled:
        raise InputError(
            "Comparisons are about one class a picture, and in this data several labels may hold at once: measure each model's "
            "own first class (targets='predicted')."
        )
    return found


def _plain_folder(place: Path) -> Labelled:
    files = [str(found.path) for found in find_images(place)]
    split = file_split(files, torch.zeros(len(files), dtype=torch.int64), place)
    return Labelled(("",), with_twins(split, copies_among([split])), kind="pictures")


def contents(split: Split) -> str:
    """A hash of what the examples of a split hold: names and labels stay where a picture is exchanged."""
    digest = hashlib.sha256(split.fingerprint().encode())
    for i in range(len(split)):
        digest.update(hashlib.sha256(_bytes(split, i)).digest())
    return digest.hexdigest()[:32]


def _bytes(split: Split, i: int) -> bytes:
    try:
        if isinstance(split.reader, Stored):
            return split.reader.raw(split.rows[i])
        example = split.read(i)
        return example.tobytes() if not isinstance(example, torch.Tensor) else example.contiguous().numpy().tobytes()
    except (OSError, BcosError) as error:  # it is named when it is predicted
        return str(error).encode()
