"""Pictures packed into few files: tar shards in WebDataset's form, and CIFAR-10."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.files import replacing
from torchbcos._core.names import natural_key
from torchbcos._core.optional import require
from torchbcos.data.labelled import Labelled, Split
from torchbcos.pictures.find import SUFFIXES
from torchbcos.pictures.read import decode_image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LABELS = (".cls", ".cls.txt")
LARGE = 10_000  # pictures from which on reading every header anew, at each start of each process, would be felt


@dataclass(frozen=True)
class TarReader:
    """Pictures at known places of uncompressed tar files."""

    tars: tuple[str, ...]
    members: tuple[tuple[int, int, int, str], ...]  # tar, offset, size, name

    def __call__(self, i: int) -> Image.Image:
        tar, offset, size, name = self.members[i]
        try:
            with open(self.tars[tar], "rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise InputError(f"{self.tars[tar]!r} cannot be read: {error.strerror or error}.") from error
        return decode_image(data, f"{name!r} in {os.path.basename(self.tars[tar])!r}")


def shards_in(place: Path) -> list[Path]:
    """The tar files of a folder, in natural order."""
    return sorted(place.glob("*.tar"), key=lambda p: natural_key(p.name))


def open_shards(place: Path) -> Labelled:
    """Tar shards: `train*.tar` and `val*.tar` (or `test*`); all are for training where none is so named."""
    tars = shards_in(place)
    report = [t for t in tars if t.name.startswith(("val", "test"))]
    train = [t for t in tars if t not in report]
    if not train:
        raise InputError(f"{str(place)!r} holds no shards to train on, only {report[0].name!r} and the like.")
    found = index_shards(train)
    classes = tuple(sorted(set(found[1]), key=natural_key))
    names = class_names(place, classes)
    split = shard_split(train, found, classes)
    other = shard_split(report, index_shards(report), classes) if report else None
    return Labelled(names, split, other, kind="shards")


Index = tuple[list[tuple[int, int, int, str]], list[str]]


def index_shards(tars: list[Path]) -> Index:
    """Where every picture of some shards lies, and its class as the shards write it; remembered for large data."""
    file = remembered_at(tars)
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


def remembered_at(tars: list[Path]) -> Path:
    """The index of these very files, in torch's cache folder."""
    facts = [(str(t.absolute()), t.stat().st_size, t.stat().st_mtime_ns) for t in tars]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    return Path(torch.hub.get_dir()) / "torchbcos" / f"shards-{digest}.npz"


def read_index(tars: list[Path]) -> Index:
    """The index, from the headers of all members."""
    members: list[tuple[int, int, int, str]] = []
    classes: list[str] = []
    for k, tar in enumerate(tars):
        try:
            with tarfile.open(tar, "r:") as file:
                pictures, labels = list[tuple[int, int, int, str]](), dict[str, str]()
                for member in file:
                    base, suffix = split_name(member.name)
                    if member.isfile() and suffix in LABELS:
                        labels[base] = file.extractfile(member).read().decode().strip()  # type: ignore[union-attr]
                    elif member.isfile() and suffix in SUFFIXES:
                        pictures.append((k, member.offset_data, member.size, member.name))
        except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
            why = str(error).splitlines()[0]
            raise InputError(f"{str(tar)!r} is no uncompressed tar file that can be read: {why}") from error
        for place in pictures:
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


def shard_split(tars: list[Path], found: tuple[list[tuple[int, int, int, str]], list[str]], classes: tuple[str, ...]) -> Split:
    """A split of shards, its classes counted as the training shards count them."""
    members, labels = found
    places = {name: i for i, name in enumerate(classes)}
    unknown = next((label for label in labels if label not in places), None)
    if unknown is not None:
        raise InputError(f"{tars[0].name!r} and the like have a class {unknown!r} that the training shards lack.")
    names = [f"{tars[k].name}/{name}" for k, _, _, name in members]
    targets = torch.tensor([places[label] for label in labels])
    return Split(names, targets, TarReader(tuple(map(str, tars)), tuple(members)), tuple(range(len(members))))


def class_names(place: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Readable names from `classes.csv` (columns `wnid` or `id`, and `name`) or `classes.txt` (a line a class)."""
    table, lines = place / "classes.csv", place / "classes.txt"
    if table.is_file():
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [{**row, "id": row.get("wnid") or row.get("id") or ""} for row in csv.DictReader(file)]
        names = {row["id"]: row.get("name") or row["id"] for row in rows}
        return tuple(names.get(c, c) for c in classes)
    if lines.is_file() and all(c.isdigit() for c in classes):
        named = lines.read_text("utf-8").splitlines()
        return tuple(named[int(c)] if int(c) < len(named) else c for c in classes)
    return classes


@dataclass(frozen=True)
class MemberReader:
    """JPEG files that share one header, in one array of bytes."""

    header: bytes
    data: Any = field(repr=False)
    offsets: Any = field(repr=False)
    source: str = ""

    def __call__(self, i: int) -> Image.Image:
        body = self.data[self.offsets[i] : self.offsets[i + 1]].tobytes()
        return decode_image(self.header + body, f"Picture {i} of {self.source!r}")


@dataclass(frozen=True)
class PixelReader:
    """Pictures in one uint8 array (N, H, W, 3)."""

    pixels: Any = field(repr=False)

    def __call__(self, i: int) -> Image.Image:
        return Image.fromarray(self.pixels[i])


def is_cifar10(place: Path) -> bool:
    """Whether a folder holds CIFAR-10 in one of its three forms."""
    return cifar10_form(place) is not None


def cifar10_form(place: Path) -> tuple[str, Path] | None:
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
    form = cifar10_form(place)
    if form is None:
        raise InputError(f"{str(place)!r} does not hold CIFAR-10.")
    read = {"binary": read_binary, "python": read_torchvision, "jpeg": read_jpeg}[form[0]]
    try:
        train, report = read(form[1], True), read(form[1], False)
    except (BcosError, MemoryError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"CIFAR-10 in {str(place)!r} cannot be read: {str(error).splitlines()[0]}") from error
    return Labelled(CIFAR10, train, report, kind="cifar10")


def numbered(part: str, targets: Any, reader: Any) -> Split:
    """A split whose examples are named by number."""
    labels = torch.as_tensor(np.asarray(targets), dtype=torch.long)
    return Split([f"{part}/{i}" for i in range(len(labels))], labels, reader, tuple(range(len(labels))))


def read_binary(place: Path, train: bool) -> Split:
    """The binary version: records of one label and 3,072 bytes, channel by channel."""
    files = [place / f"data_batch_{i}.bin" for i in range(1, 6)] if train else [place / "test_batch.bin"]
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return numbered("train" if train else "test", records[:, 0], PixelReader(np.ascontiguousarray(pixels)))


def read_torchvision(place: Path, train: bool) -> Split:
    """The version that torchvision downloads; it checks the hashes before it unpickles."""
    datasets = require("torchvision.datasets", extra="train", why="CIFAR-10 in torchvision's form")
    found = datasets.CIFAR10(str(place), train=train, download=False)
    return numbered("train" if train else "test", found.targets, PixelReader(found.data))


def read_jpeg(place: Path, train: bool) -> Split:
    """`train.npz` or `test.npz`: one JPEG header, bodies, offsets, labels."""
    name = "train" if train else "test"
    with np.load(place / f"{name}.npz", allow_pickle=False) as file:
        parts = {key: file[key] for key in ("header", "data", "offsets", "labels")}
    reader = MemberReader(parts["header"].tobytes(), parts["data"], parts["offsets"], f"{name}.npz")
    return numbered(name, parts["labels"], reader)
