"""Pictures packed into few files: tar shards in WebDataset's form."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchbcos._core.errors import InputError
from torchbcos._core.files import replacing
from torchbcos._core.names import natural_key
from torchbcos._core.tables import read_table, read_text
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.once import Files, apart, once
from torchbcos.pictures.find import SUFFIXES
from torchbcos.pictures.read import decode_image
from torchbcos.pictures.samples import Range

__all__ = ["LARGE", "open_shards", "read_index", "shards_in", "split_name"]

_LABELS = (".cls", ".cls.txt")
# Above this many pictures the index is kept in a file. Without it each process reads every member's header at its start, which
# takes seconds for tens of thousands of pictures; below it the file would save too little to be worth its place.
LARGE = 10_000
_FORM = 2  # of the index: since 2 a member that was replaced is no longer in it


@dataclass(frozen=True)
class _TarReader:
    """Pictures at known places of uncompressed tar files."""

    tars: tuple[str, ...]
    members: tuple[tuple[int, int, int, str], ...]  # tar, offset, size, name
    value_range: Range | None = None

    def __call__(self, i: int) -> Image.Image:
        tar, offset, size, name = self.members[i]
        try:
            with open(self.tars[tar], "rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise InputError(f"{self.tars[tar]!r} cannot be read: {error.strerror or error}.") from error
        return decode_image(data, f"{name!r} in {os.path.basename(self.tars[tar])!r}", value_range=self.value_range)


def shards_in(place: Path) -> list[Path]:
    """The tar files of a folder, in natural order."""
    return sorted(place.glob("*.tar"), key=lambda p: natural_key(p.name))


def open_shards(place: Path) -> Labelled:
    """Tar shards: `train*.tar` and `val*.tar` (or `test*`); all are for training where none is so named."""
    tars = shards_in(place)
    report = _one_name_each([t for t in tars if t.name.startswith(("val", "test"))])
    train = _one_name_each([t for t in tars if not t.name.startswith(("val", "test"))])
    apart(Files.named(map(str, train)), Files.named(map(str, report)))
    if not train:
        raise InputError(f"{str(place)!r} holds no shards to train on, only {report[0].name!r} and the like.")
    found = _index_shards(train)
    classes = tuple(sorted(set(found[1]), key=natural_key))
    names = _class_names(place, classes)
    split = _shard_split(train, found, classes)
    other = _shard_split(report, _index_shards(report), classes) if report else None
    return Labelled(names, split, other, kind="shards", repeated=len(tars) - len(train) - len(report))


def _one_name_each(tars: list[Path]) -> list[Path]:
    """The shards without those that are other names, links say, of earlier ones."""
    return [tars[i] for i in once(Files.named(map(str, tars)), [None] * len(tars))]


_Index = tuple[list[tuple[int, int, int, str]], list[str]]


def _index_shards(tars: list[Path]) -> _Index:
    """Where every picture of some shards lies, and its class as the shards write it; remembered for large data."""
    file = _remembered_at(tars)
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(file) as saved:
        names, classes = (bytes(saved[key]).decode(errors="surrogateescape").split("\n") for key in ("names", "classes"))
        places = [saved[key].tolist() for key in ("tar", "offset", "size")]
        return list(zip(*places, names, strict=True)), classes
    found = read_index(tars)
    if len(found[1]) >= LARGE and not any("\n" in text for _, _, _, text in found[0]):
        members, classes = found
        arrays: dict[str, Any] = {key: np.array([m[k] for m in members]) for k, key in enumerate(("tar", "offset", "size"))}
        for key, texts in (("names", [m[3] for m in members]), ("classes", classes)):
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


def read_index(tars: list[Path]) -> _Index:
    """The index, from the headers of all members."""
    members: list[tuple[int, int, int, str]] = []
    classes: list[str] = []
    for k, tar in enumerate(tars):
        try:
            with tarfile.open(tar, "r:") as file:
                pictures, labels = dict[str, tuple[int, int, int, str]](), dict[str, str]()
                for member in file:
                    base, suffix = split_name(member.name)
                    if member.isfile() and suffix in _LABELS:
                        labels[base] = file.extractfile(member).read().decode().strip()  # type: ignore[union-attr]
                    elif member.isfile() and suffix in SUFFIXES:
                        # a later member takes the place of an earlier one of its name, as when the archive is unpacked
                        pictures[member.name] = k, member.offset_data, member.size, member.name
        except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
            why = str(error).splitlines()[0]
            raise InputError(f"{str(tar)!r} is no uncompressed tar file that can be read: {why}") from error
        for place in pictures.values():
            base = split_name(place[3])[0]
            label = labels.get(base) or os.path.basename(os.path.dirname(place[3]))
            if not label:
                raise InputError(f"{str(tar)!r}: {place[3]!r} has neither a '.cls' beside it nor a folder that names its class.")
            members.append(place)
            classes.append(label)
    if not members:
        raise InputError(f"{str(tars[0])!r} and the other shards hold no pictures.")
    return members, classes


def split_name(name: str) -> tuple[str, str]:
    """A member's key and suffix: the key ends at the first dot of the last part, as in WebDataset.

    >>> split_name("a.b/001.seg.png")
    ('a.b/001', '.seg.png')
    """
    folder, _, last = name.rpartition("/")
    base, _, suffix = last.partition(".")
    return (f"{folder}/{base}" if folder else base), f".{suffix}".lower()


def _shard_split(tars: list[Path], found: tuple[list[tuple[int, int, int, str]], list[str]], classes: tuple[str, ...]) -> Split:
    """A split of shards, its classes counted as the training shards count them."""
    members, labels = found
    places = {name: i for i, name in enumerate(classes)}
    unknown = next((label for label in labels if label not in places), None)
    if unknown is not None:
        raise InputError(f"{tars[0].name!r} and the like have a class {unknown!r} that the training shards lack.")
    names = [f"{tars[k].name}/{name}" for k, _, _, name in members]
    targets = torch.tensor([places[label] for label in labels])
    return Split(names, targets, _TarReader(tuple(map(str, tars)), tuple(members)), tuple(range(len(members))))


def _class_names(place: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Readable names from `classes.csv` (columns `wnid` or `id`, and `name`) or `classes.txt` (a line a class)."""
    table, lines = place / "classes.csv", place / "classes.txt"
    if table.is_file():
        cells = [row.cells for row in read_table(table, ["name"]).rows]
        names = {row.get("wnid") or row.get("id") or "": row["name"] for row in cells}
        return tuple(names.get(c) or c for c in classes)
    if lines.is_file() and all(c.isdigit() for c in classes):
        named = read_text(lines).splitlines()
        return tuple(named[int(c)] if int(c) < len(named) else c for c in classes)
    return classes
