"""Pictures without labels: whatever lies below a folder, in a table or in tar shards; labels that are there are not looked at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import quote
from torchbcos.data.annotations import MASKS
from torchbcos.data.copies import copies_among, with_twins
from torchbcos.data.labelled import Labelled, Split, file_split
from torchbcos.data.notes import count_of
from torchbcos.data.once import once_walked
from torchbcos.data.scanned import WANTED, examples_in
from torchbcos.data.shards import pictures_of, shards_in
from torchbcos.data.sources import open_labelled
from torchbcos.data.table import REPORT, TRAIN

__all__ = ["open_unlabelled"]


def open_unlabelled(path: str | os.PathLike[str], classes: Sequence[str]) -> Labelled:
    """All pictures at a place, as a data set whose labels nobody knows.

    - a folder: all pictures below it, but those in folders called `masks`; of `train/` beside `val/` or `test/` only those to
      train on;
    - a folder of tar shards: all pictures in them, but those of shards called `val` or `test`;
    - a table, or a folder with `labels.csv` of the form of `open_labelled`: the files that it names, but those of its split
      `val`.

    Args:
        path: of the pictures.
        classes: names of what a teacher knows; all targets are 0.

    Raises:
        MissingFileError: there is nothing at `path`.
        InputError: there are no pictures, or a shard or table cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     Path(place, "a").mkdir()
    ...     for name in ("1.png", "2.png"): _ = Path(place, "a", name).write_bytes(name.encode())
    ...     len(open_unlabelled(place, ("cat", "dog")).train)
    2
    """
    place = Path(path)
    if not os.path.exists(place):
        raise MissingFileError(f"There is no {quote(place)}.")
    if place.suffix.lower() == ".csv":
        return _of_table(place, classes)
    if (place / "labels.csv").is_file():
        with contextlib.suppress(InputError):  # a table of other columns than ours: the pictures are there all the same
            return _of_table(place, classes)
    if not place.is_dir():
        raise InputError(f"{quote(place)} is a file: name the folder of the pictures.")
    tars = shards_in(place)
    if tars:
        return _without_labels(pictures_of(place), tuple(classes), 0)
    return _below(place, tuple(classes))


def _of_table(place: Path, classes: Sequence[str]) -> Labelled:
    """The examples to train on that a table names."""
    found = open_labelled(place, uncertain="ignore")
    return _without_labels(found.train, tuple(classes), found.repeated)


def _below(place: Path, classes: tuple[str, ...]) -> Labelled:
    """All pictures below a folder; each file counts once, whatever names it has."""
    names = {entry.name.lower(): entry for entry in place.iterdir() if entry.is_dir()}
    train = next((names[name] for name in TRAIN if name in names), None)
    place = train if train is not None and set(names) & set(REPORT) else place
    passed: list[str] = []
    walked = [file for file in examples_in(place, passed) if MASKS not in Path(file.path).relative_to(place).parts[:-1]]
    if not walked:
        raise InputError(f"There are no pictures below {quote(place)}: files that end in {', '.join(WANTED)}.")
    kept = once_walked(walked, [0] * len(walked))
    split = file_split([walked[i].path for i in kept], torch.zeros(len(kept), dtype=torch.long), place)
    return _without_labels(split, classes, len(walked) - len(kept))


def _without_labels(split: Split, classes: tuple[str, ...], repeated: int) -> Labelled:
    """Data of one split; copies stay on one side when some of it is held out."""
    split = replace(split, targets=torch.zeros(len(split), dtype=torch.long), twins=None)
    split = with_twins(split, copies_among([split]))
    many = len(split) - len(set(split.twins or range(len(split))))
    notes = (f"{count_of(many, 'picture')} of {quote(split.names[0])} and others lie there more than once.",) if many else ()
    return Labelled(classes, split, kind="unlabelled", repeated=repeated, notes=notes)
