"""Pictures packed into few files: tar shards in WebDataset's form."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.files import replacing
from torchbcos._core.names import natural_key, quote, whole_number
from torchbcos._core.tables import read_table, read_text, tidy
from torchbcos.data.copies import copies_among, copies_in_words, with_twins
from torchbcos.data.labelled import ARRAY, Labelled, Split, Stored
from torchbcos.data.members import BENT, Index, read_index, read_pictures
from torchbcos.data.notes import check_class, look_alikes
from torchbcos.data.once import Files, apart, once
from torchbcos.data.table import REPORT, TRAIN
from torchbcos.pictures.npy import read_npz
from torchbcos.pictures.read import MAX_BYTES, decode_image
from torchbcos.pictures.samples import Range

__all__ = ["LARGE", "NAMES", "open_shards", "pictures_of", "read_index", "shards_in"]

NAMES = ("classes.csv", "classes.txt")
# Above this many pictures the index is kept in a file. Without it each process reads every member's header at its start, which
# takes seconds for tens of thousands of pictures; below it the file would save too little to be worth its place.
LARGE = 10_000
_FORM = 5  # of the index: since 2 a member that was replaced is no longer in it, since 3 names with dots are, and notes; since 4
# a table among folders is refused; since 5 arrays are examples, too
# A word of a shard's name that says what it is for: "val-000", "imagenet-val-000" and "Test_3" are reported, "valley-000" is not.
_REPORT = re.compile(r"(?<![a-z])(val|valid|validation|test)(?![a-z])")
_TRAIN = re.compile(r"(?<![a-z])(train|training)(?![a-z])")


@dataclass(frozen=True)
class _TarReader(Stored):
    """Pictures at known places of uncompressed tar files."""

    tars: tuple[str, ...]
    members: tuple[tuple[int, int, int, str], ...]  # tar, offset, size, name
    value_range: Range | None = None

    def item(self, i: int, value_range: Range | None = None) -> tuple[str, Any]:
        where, data = self._whole(i)
        if self.members[i][3].lower().endswith(ARRAY):
            return where, io.BytesIO(data)
        return where, decode_image(data, where, value_range=self.value_range or value_range)

    def __call__(self, i: int) -> Image.Image:
        where, data = self._whole(i)
        return decode_image(data, where, value_range=self.value_range)

    def _whole(self, i: int) -> tuple[str, bytes]:
        """What messages call member i, and its bytes.

        Raises:
            InputError: it has too many, or they cannot be read.
        """
        tar, offset, size, name = self.members[i]
        where = f"{quote(name)} in {quote(os.path.basename(self.tars[tar]))}"
        if offset == BENT:
            raise InputError(f"{where} is stored as a sparse file: pack it again without --sparse.")
        if size > MAX_BYTES:
            raise InputError(f"{where} has {size:,} bytes, more than the {MAX_BYTES:,} that are read of a picture.")
        try:
            return where, self.raw(i)
        except (OSError, ValueError, MemoryError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise InputError(f"{self.tars[tar]!r} cannot be read: {why or error}.") from error

    def size(self, i: int) -> int:
        _, offset, size, _ = self.members[i]
        return 0 if offset == BENT else size

    def raw(self, i: int, start: int = 0) -> bytes:
        tar, offset, size, _ = self.members[i]
        with open(self.tars[tar], "rb") as file:
            file.seek(offset + start)
            return file.read(size - start)


def shards_in(place: Path) -> list[Path]:
    """The tar files of a folder, in natural order."""
    return sorted(place.glob("*.tar"), key=lambda p: natural_key(p.name))


def open_shards(place: Path) -> Labelled:
    """Tar shards: `train*.tar` and `val*.tar` (or `test*`); all are for training where none is so named.

    Raises:
        InputError: a shard cannot be read, or its labels are none.
    """
    tars = shards_in(place)
    report = _one_name_each([t for t in tars if _is_report(t.stem)])
    train = _one_name_each([t for t in tars if not _is_report(t.stem)])
    apart(Files.named(map(str, train)), Files.named(map(str, report)))
    if not train:
        raise InputError(f"{str(place)!r} holds no shards to train on, only {report[0].name!r} and the like.")
    found, other = _index_shards(train), _index_shards(report) if report else None
    _check_folders(train, found, "trained on")
    if other is not None:
        _check_folders(report, other, "reported")
    classes = tuple(sorted(set(found.classes), key=natural_key))
    names = _class_names(place, classes)
    split = _shard_split(train, found, classes)
    reported = _shard_split(report, other, classes) if other is not None else None
    copies = copies_among([split] if reported is None else [split, reported])
    notes = (*found.notes, *(other.notes if other is not None else ()), *look_alikes(names, place),
             *copies_in_words(split, reported, copies))  # fmt: skip
    repeated = len(tars) - len(train) - len(report)
    return Labelled(names, with_twins(split, copies), reported, kind="shards", repeated=repeated, notes=notes)


def pictures_of(place: Path) -> Split:
    """All pictures of the shards of a folder but of those that are named as reported ones; all targets are 0.

    Raises:
        InputError: a shard cannot be read, or there are no pictures.
    """
    tars = shards_in(place)
    tars = _one_name_each([tar for tar in tars if not _is_report(tar.stem)] or tars)
    found = read_pictures(tars)
    if not found.members:
        raise InputError(f"The shards in {quote(place)} hold no pictures. {' '.join(found.notes)}".rstrip())
    return _shard_split(tars, found, ("",))


def _is_report(stem: str) -> bool:
    """Whether a shard is for reporting, by the first word of its name that says so."""
    report, train = _REPORT.search(stem.lower()), _TRAIN.search(stem.lower())
    return report is not None and (train is None or report.start() < train.start())


def _check_folders(tars: list[Path], found: Index, use: str) -> None:
    """Refuse shards whose folders say that some pictures are for something else: a shard is used as a whole.

    The first folder of a member that is called as a split counts; the folder that names the class does not, unless all do so.

    Raises:
        InputError: so it is; the message says how to pack them.
    """
    splits = {label.lower() for label in found.classes} <= {*TRAIN, *REPORT}
    first: dict[bool, tuple[int, str]] = {}
    for (tar, _, _, name), label in zip(found.members, found.classes, strict=True):
        folders = [part for part in name.split("/")[:-1] if part not in ("", ".")]
        if folders and tidy(folders[-1]) == label and not splits:
            folders = folders[:-1]
        role = next((part.lower() in REPORT for part in folders if part.lower() in TRAIN + REPORT), None)
        if role is not None:
            first.setdefault(role, (tar, name))
    wrong = first.get(use == "trained on")
    if wrong is None and splits and len(set(found.classes)) > 1:
        wrong = next(iter(first.values()), None)
    if wrong is not None:
        right = "val" if use == "trained on" else "train"
        named = ", since no word of its name says that it is to be reported" if use == "trained on" else ", by its name"
        raise InputError(
            f"{quote(tars[wrong[0]].name)} would be {use} as a whole{named}, and it holds {quote(wrong[1])}. Pack a tar for each "
            f"split, called train-000.tar and val-000.tar, with a folder for each class; one of {right!r} alone is only renamed."
        )


def _one_name_each(tars: list[Path]) -> list[Path]:
    """The shards without those that are other names, links say, of earlier ones."""
    return [tars[i] for i in once(Files.named(map(str, tars)), [None] * len(tars))]


def _index_shards(tars: list[Path]) -> Index:
    """Where every picture of some shards lies, and its class as the shards write it; remembered for large data."""
    file = _remembered_at(tars)
    with contextlib.suppress(BcosError, ValueError):
        saved = read_npz(file, ("names", "classes", "notes", "tar", "offset", "size"))
        names, classes, notes = (
            bytes(saved[key]).decode(errors="surrogateescape").split("\n") for key in ("names", "classes", "notes")
        )
        places = [saved[key].tolist() for key in ("tar", "offset", "size")]
        return Index(list(zip(*places, names, strict=True)), classes, tuple(note for note in notes if note))
    found = read_index(tars)
    if len(found.classes) >= LARGE and not any("\n" in text for _, _, _, text in found.members):
        arrays: dict[str, Any] = {key: np.array([m[k] for m in found.members]) for k, key in enumerate(("tar", "offset", "size"))}
        for key, texts in (("names", [m[3] for m in found.members]), ("classes", found.classes), ("notes", found.notes)):
            arrays[key] = np.frombuffer("\n".join(texts).encode(errors="surrogateescape"), np.uint8)
        with contextlib.suppress(OSError):  # a full or read-only home is no reason to stop
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as partial, partial.open("wb") as whole:
                np.savez(whole, **arrays)
    return found


def _remembered_at(tars: list[Path]) -> Path:
    """The index of these very files, in torch's cache folder."""
    facts = [(str(t.absolute()), t.stat().st_size, t.stat().st_mtime_ns) for t in tars]
    digest = hashlib.sha256(json.dumps([_FORM, facts]).encode()).hexdigest()[:24]
    return Path(torch.hub.get_dir()) / "torchbcos" / f"shards-{digest}.npz"


def _shard_split(tars: list[Path], found: Index, classes: tuple[str, ...]) -> Split:
    """A split of shards, its classes counted as the training shards count them."""
    places = {name: i for i, name in enumerate(classes)}
    unknown = next((label for label in found.classes if label not in places), None)
    if unknown is not None:
        raise InputError(f"{tars[0].name!r} and the like have a class {unknown!r} that the training shards lack.")
    names = [f"{tars[k].name}/{name}" for k, _, _, name in found.members]
    targets = torch.tensor([places[label] for label in found.classes])
    return Split(names, targets, _TarReader(tuple(map(str, tars)), tuple(found.members)), tuple(range(len(names))))


def _class_names(place: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Readable names from `classes.csv` (columns `wnid` or `id`, and `name`) or `classes.txt` (a line a class).

    Raises:
        InputError: two classes would have one name, or a name is none.
    """
    table, lines = (place / name for name in NAMES)
    if table.is_file():
        names, source = _named_in_table(table), table
    elif lines.is_file() and all(whole_number(c) is not None for c in classes):
        names, source = {str(i): tidy(line) for i, line in enumerate(read_text(lines).splitlines())}, lines
        names = {c: names.get(str(int(c)), "") for c in classes}
    else:
        return classes
    found = tuple(names.get(c) or c for c in classes)
    seen: dict[str, str] = {}
    for name, own in zip(found, classes, strict=True):
        check_class(name, quote(source))
        if seen.setdefault(name, own) != own:
            raise InputError(
                f"{quote(source)} gives the classes {seen[name]!r} and {own!r} one name, {name!r}: give each its own."
            )
    return found


def _named_in_table(table: Path) -> dict[str, str]:
    """The names of classes by their numbers or wnids.

    Raises:
        InputError: a class has two names.
    """
    names: dict[str, str] = {}
    for row in read_table(table, ["name"]).rows:
        own = row.cells.get("wnid") or row.cells.get("id") or ""
        if own and names.setdefault(own, row["name"]) != row["name"]:
            raise InputError(f"{quote(table)}, line {row.line}, gives the class {own!r} a second name: remove one.")
    return names
