"""Labelled pictures and tensors: folders, tables, tar shards and CIFAR-10 behind one interface.

A data set is a list of names, a tensor of targets, and a reader that gives example i: reading in any order is what
exact resuming, splitting and distributing over processes rest on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.names import quote
from torchbcos.pictures.kinds import SUFFIXES
from torchbcos.pictures.npy import read_array
from torchbcos.pictures.read import read_image, take_note
from torchbcos.pictures.samples import Range, check_range, heard, without_range
from torchbcos.pictures.scans import is_scan, read_scan

__all__ = ["ARRAY", "FileReader", "Labelled", "Split", "Stored", "file_split", "relative_to", "split_rows"]

ARRAY = ".npy"
_Reader = Callable[[int], Any]


@dataclass(frozen=True)
class Split:
    """Labelled examples, read one at a time.

    Attributes:
        names: what messages call each example.
        targets: (N,) int64 classes, or (N, C) float32 where several labels may hold: 1, 0, soft ones between, NaN where one is
            not known.
        reader: gives example i as a Pillow image or a float tensor (C, *S).
        rows: which of the reader's examples these are.
        twins: one number a set of byte-identical examples, where there are such: `split_rows` keeps them together.
        groups: one number a set of examples that belong together whatever their classes, scans of one patient and copies of them,
            where there are such: `torchbcos.data.division.split_groups` keeps them together.
        kin: what messages call such a set: "patient", or "group" of a table.
    """

    names: Sequence[str]
    targets: Tensor
    reader: _Reader
    rows: tuple[int, ...]
    twins: tuple[int, ...] | None = None
    groups: tuple[int, ...] | None = None
    kin: str = "patient"

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Split of {len(self):,} examples"

    def read(self, i: int) -> Image.Image | Tensor:
        """Example i, and no word on its numbers: `remarks` has it, once and for all.

        Raises:
            InputError, MissingFileError: it cannot be read; the message names it.
        """
        with heard():
            example: Image.Image | Tensor = self.reader(self.rows[i])
        take_note(example)
        return example

    def item(self, i: int, value_range: Range | None = None) -> tuple[str, Any]:
        """Example i as `torchbcos.pictures.Preprocess.read` takes it, and what messages call it.

        A picture is decoded already, and no word is said on its numbers (`remarks` has it); arrays and scans are read by whoever
        knows what form they should have.

        Args:
            i: which.
            value_range: the stored numbers of black and white, where these examples have none of their own (`within`).

        Raises:
            InputError, MissingFileError: it cannot be read; the message names it.
        """
        if isinstance(self.reader, Stored):
            name, item = self.reader.item(self.rows[i], value_range)
        else:
            name, item = self.names[i], self.reader(self.rows[i])
        take_note(item)
        return name, item

    def take(self, chosen: Sequence[int]) -> Split:
        """The examples at these places."""
        index = torch.as_tensor(list(chosen), dtype=torch.long)
        twins, groups = (None if sets is None else tuple(sets[i] for i in chosen) for sets in (self.twins, self.groups))
        return replace(self, names=[self.names[i] for i in chosen], targets=self.targets[index],
                       rows=tuple(self.rows[i] for i in chosen), twins=twins, groups=groups)  # fmt: skip

    def within(self, value_range: Range | None) -> Split:
        """These examples, their stored numbers read within a range; see `torchbcos.pictures.read_image`.

        Raises:
            InputError: they are neither files nor members of shards.
        """
        limits = check_range(value_range)
        if limits is None:
            return self
        fields = {field.name for field in dataclasses.fields(self.reader)} if dataclasses.is_dataclass(self.reader) else set()
        if "value_range" not in fields:
            raise InputError("A range of numbers can be set for files and shards, and this data is neither.")
        reader: Any = self.reader
        return replace(self, reader=replace(reader, value_range=limits))

    @property
    def value_range(self) -> Range | None:
        """The stored numbers of black and white that `within` has set."""
        found: Range | None = getattr(self.reader, "value_range", None)
        return found

    def remarks(self, count: int = 3, *, ranged: bool = True) -> tuple[str, ...]:
        """What is to be said of the numbers of the first examples, in a sentence: that 12 bits in 16 are all but black, say.

        Where no range can be said (`ranged=False`), in `torchbcos check` say, it tells how pictures are converted. Of a scan it
        is what its reader noted: that nothing says how it is oriented, say.
        """
        for i in range(min(count, len(self))):
            with contextlib.suppress(BcosError):  # it is named when its turn comes
                found = self._said_of(i)
                if found:
                    return tuple(note if ranged else without_range(note) for note in found)
        return ()

    def _said_of(self, i: int) -> list[str]:
        """What is to be said of the numbers of example i."""
        file = self.reader.files[self.rows[i]] if isinstance(self.reader, FileReader) else ""
        if file and not file.lower().endswith((*SUFFIXES, ARRAY)) and is_scan(file):
            scan = read_scan(file, value_range=self.value_range)
            return [f"{quote(self.names[i])}: {note}" for note in scan.facts.get("notes", ())]
        with heard() as notes:
            note = take_note(self.reader(self.rows[i]))
        return notes if note is None else [*notes, note]

    def fingerprint(self) -> str:
        """A hash of names and targets: a resumed run compares it."""
        digest = hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape"))
        digest.update(self.targets.numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Labelled:
    """A data set.

    Attributes:
        classes: names in the order of the targets.
        train: what may be trained on.
        report: the split that is reported, if the data set has one of its own ("val" or "test").
        multi_label: several labels may hold for one example.
        kind: "folder", "table", "shards", "cifar10".
        repeated: further names of files that are counted once: links, hard links, rows that are there twice.
        notes: what a person should be told, a sentence each: what lies there and is not used, byte-identical copies, classes
            that look alike.
    """

    classes: tuple[str, ...]
    train: Split
    report: Split | None = None
    multi_label: bool = False
    kind: str = "folder"
    repeated: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """All examples, those of the report included."""
        return len(self.train) + (len(self.report) if self.report is not None else 0)

    def __repr__(self) -> str:
        report = "" if self.report is None else f", {len(self.report):,} to report"
        return f"Labelled {self.kind}: {len(self.classes):,} classes, {len(self.train):,} examples to train on{report}"


class Stored(ABC):
    """A reader of examples that lie on a disk as bytes, which can be compared without decoding them."""

    @abstractmethod
    def item(self, i: int, value_range: Range | None = None) -> tuple[str, Any]:
        """See `Split.item`."""

    @abstractmethod
    def size(self, i: int) -> int:
        """How many bytes example i has.

        Raises:
            OSError: its file cannot be reached.
        """

    @abstractmethod
    def raw(self, i: int, start: int = 0) -> bytes:
        """The bytes of example i from `start` on.

        Raises:
            OSError: they cannot be read.
        """


@dataclass(frozen=True)
class FileReader(Stored):
    """Pictures, `.npy` arrays and scans from files; folders that are one scan."""

    files: tuple[str, ...]
    value_range: Range | None = None

    def item(self, i: int, value_range: Range | None = None) -> tuple[str, Any]:
        file = self.files[i]
        if file.lower().endswith(ARRAY) or is_scan(file):
            return file, file
        return file, read_image(file, value_range=self.value_range or value_range)

    def size(self, i: int) -> int:
        found = os.stat(self.files[i])
        return 0 if stat.S_ISDIR(found.st_mode) else found.st_size

    def raw(self, i: int, start: int = 0) -> bytes:
        with open(self.files[i], "rb") as file:
            file.seek(start)
            return file.read()

    def __call__(self, i: int) -> Image.Image | Tensor:
        read = read_array if self.files[i].lower().endswith(ARRAY) else read_image
        return read(self.files[i], value_range=self.value_range)


def relative_to(file: str, place: Path) -> str:
    """The path of a file from a folder, with slashes; cut off where that will do, since `relpath` takes as long as the walk."""
    start = os.path.join(str(place), "")
    if file.startswith(start) and ".." not in file:
        return file[len(start) :].replace(os.sep, "/")
    return Path(os.path.relpath(file, place)).as_posix()


def file_split(files: Sequence[str], targets: Tensor, place: Path) -> Split:
    """A split of files, named relative to the folder they came from."""
    names = [relative_to(file, place) for file in files]
    return Split(names, targets, FileReader(tuple(files)), tuple(range(len(files))))


def split_rows(targets: Tensor, share: float, seed: int, twins: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
    """A seeded division: (rest, held out), the share taken of every class (of the whole for multi-label targets).

    A class of two examples or more keeps at least one on each side. Examples of a class with one number in `twins` stay on one
    side, unless the class has no others.

    >>> split_rows(torch.tensor([0, 0, 1, 1]), 0.5, seed=0)[0]
    [1, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    rest: list[int] = []
    held: list[int] = []
    for group in _groups(targets):
        order = group[torch.randperm(len(group), generator=generator)].tolist() if len(group) > 1 else group.tolist()
        k = min(max(1, round(share * len(order))), len(order) - 1) if share > 0 and len(order) > 1 else 0
        out = order[:k] if twins is None else _whole_sets(order, k, twins)
        held += out
        rest += order[k:] if twins is None else sorted(set(order) - set(out))
    return sorted(rest), sorted(held)


def _whole_sets(order: Sequence[int], k: int, twins: Sequence[int]) -> list[int]:
    """The first sets of twins that are at most k examples together; the smallest set, if all are larger."""
    sets: dict[int, list[int]] = {}
    for i in order:
        sets.setdefault(twins[i], []).append(i)
    if not k or len(sets) in (1, len(order)):
        return list(order[:k])
    held: list[int] = []
    for members in sets.values():
        if len(held) + len(members) <= k:
            held += members
    return held or min(sets.values(), key=len)


def _groups(targets: Tensor) -> tuple[Tensor, ...]:
    """The places of every class, in order; of multi-label targets all places. In time that does not grow with the classes."""
    if targets.dim() > 1:
        return (torch.arange(len(targets)),)
    _, counts = torch.unique(targets, return_counts=True)
    return tuple(torch.tensor_split(torch.argsort(targets, stable=True), counts.cumsum(0)[:-1]))
