"""Opening labelled data: what lies at a path is recognised, not declared."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, shorten
from torchbcos._core.names import hint, natural_key
from torchbcos.data.annotations import MASKS
from torchbcos.data.labelled import FileReader, Labelled, Split
from torchbcos.data.packed import is_cifar10, open_cifar10, open_shards, shards_in
from torchbcos.pictures.find import SUFFIXES

TRAIN, REPORT = ("train", "training"), ("val", "valid", "validation", "test")
TABLE = "labels.csv"


def open_labelled(path: str | os.PathLike[str]) -> Labelled:
    """A labelled data set, recognised by what lies at `path`.

    - a folder with a folder of pictures (or `.npy` arrays) for every class; or `train/` and `val/` (`valid`, `test`) of such;
    - a `.csv` table, or a folder with `labels.csv`: a column `file` and one column a label (0 or 1), or `file` and `class`;
      an optional column `split` says "train" or "val";
    - a folder of WebDataset tar shards (`train-*.tar`, `val-*.tar`): `key.jpg` with `key.cls`, or `class/name.jpg`;
    - CIFAR-10: its binary version, the one that torchvision downloads, or `train.npz` and `test.npz` of JPEG files.

    Raises:
        MissingFileError: there is nothing at `path`.
        InputError: it is none of these, or a class is empty.

    >>> import tempfile, PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         PIL.Image.new("RGB", (8, 8)).save(f"{folder}/{name}/1.png")
    ...     open_labelled(folder).classes
    ('cat', 'dog')
    """
    place = Path(path)
    if not place.exists():
        raise MissingFileError(f"There is no data at {str(place)!r}.{nearby(place)}")
    if place.is_file():
        if place.suffix.lower() != ".csv":
            raise InputError(f"{str(place)!r} is a file: data is a folder, or a table that ends in .csv.")
        return open_table(place)
    if is_cifar10(place):
        return open_cifar10(place)
    if (place / TABLE).is_file():
        return open_table(place / TABLE)
    if shards_in(place):
        return open_shards(place)
    return open_folder(place)


def nearby(place: Path) -> str:
    """The names beside one that is missing."""
    parent = place.absolute().parent
    return hint(place.name, os.listdir(parent)) if parent.is_dir() else f" There is no folder {str(parent)!r} either."


def open_folder(place: Path) -> Labelled:
    """A folder of classes, or `train/` and `val/` of them."""
    found = {name.name.lower(): name for name in folders_of(place)}
    train = next((found[n] for n in TRAIN if n in found), None)
    if train is None:
        classes, split = read_classes(place, None)
        return Labelled(classes, split)
    classes, split = read_classes(train, None)
    report = next((found[n] for n in REPORT if n in found), None)
    return Labelled(classes, split, read_classes(report, classes)[1] if report is not None else None)


def folders_of(place: Path) -> list[Path]:
    """Folders in a folder but hidden ones, in natural order."""
    try:
        inside = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {str(place)!r} cannot be read: {error.strerror or error}.") from error
    return sorted(inside, key=lambda p: p.name)


def read_classes(place: Path, classes: tuple[str, ...] | None) -> tuple[tuple[str, ...], Split]:
    """The classes of a folder (or those given, in their order) and its examples."""
    inside = without_annotations(folders_of(place))
    names = tuple(p.name for p in inside)
    if len(names) < 2 and classes is None:
        packed = next((p.name for p in place.iterdir() if p.name.endswith((".tar.gz", ".tgz", ".zip"))), None)
        if packed is not None:
            raise InputError(f"{str(place)!r} holds {packed!r}: shards are plain .tar files: pack without compression.")
        raise InputError(
            f"{str(place)!r} holds {len(names)} folder{'s' if len(names) != 1 else ''}: a folder for every class is needed, "
            "two at least, with the pictures of the class in it."
        )
    known = names if classes is None else classes
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{str(place)!r} has a class {unknown[0]!r} that the training data lacks.{hint(unknown[0], known)}")
    files: list[str] = []
    targets: list[int] = []
    for folder in inside:
        found = sorted(walk(folder), key=natural_key)
        if not found:
            kinds = ", ".join((*SUFFIXES, ".npy"))
            raise InputError(f"The class {folder.name!r} in {str(place)!r} holds no files that end in {kinds}.")
        files += found
        targets += [known.index(folder.name)] * len(found)
    return known, file_split(files, torch.tensor(targets), place)


def without_annotations(folders: list[Path]) -> list[Path]:
    """Classes only: `masks/` with folders that are named as its neighbours holds masks of their pictures (`annotations`)."""
    names = {p.name for p in folders}
    return [p for p in folders if not (p.name == MASKS and names & {inner.name for inner in folders_of(p)})]


def file_split(files: Sequence[str], targets: Tensor, place: Path) -> Split:
    """A split of files, named relative to the folder they came from."""
    names = [Path(os.path.relpath(f, place)).as_posix() for f in files]
    return Split(names, targets, FileReader(tuple(files)), tuple(range(len(files))))


def walk(folder: Path) -> list[str]:
    """Pictures and arrays below a folder."""
    wanted = (*SUFFIXES, ".npy")
    return [
        os.path.join(where, name)
        for where, inside, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(wanted) and not name.startswith(".")
    ]


def open_table(table: Path) -> Labelled:
    """A CSV table: `file`, then one column a label, or `class`; `split` may divide it."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{str(table)!r} is no table in UTF-8 that can be read: {str(error).splitlines()[0]}") from error
    if "file" not in columns or len(columns) < 2:
        raise InputError(f"{str(table)!r} needs a column 'file' and one column a label, or 'class'; it has {columns}.")
    if not rows:
        raise InputError(f"{str(table)!r} has no rows.")
    labels = tuple(c for c in columns if c not in ("file", "split"))
    if "class" in labels and len(labels) > 1:
        others = ", ".join(repr(c) for c in labels if c != "class")
        raise InputError(f"{str(table)!r} has a column 'class' and {others} beside it: give the class, or a column a label.")
    if labels == ("class",):
        classes = tuple(sorted({row["class"] or "" for row in rows}, key=natural_key))
        targets, multi = torch.tensor([classes.index(row["class"] or "") for row in rows]), False
    else:
        classes, multi = labels, True
        targets = torch.tensor([[number(table, line, row, label) for label in labels] for line, row in enumerate(rows, 2)])
    short = next((line for line, row in enumerate(rows, 2) if not row["file"]), None)
    if short is not None:
        raise InputError(f"{str(table)!r}, line {short}, names no file.")
    whole = file_split([str(table.parent / row["file"]) for row in rows], targets, table.parent)
    parts = [(row.get("split") or TRAIN[0]).strip().lower() for row in rows]
    for line, part in enumerate(parts, 2):
        if part not in TRAIN + REPORT:
            raise InputError(f"{str(table)!r}, line {line}: the split {part!r} is neither 'train' nor 'val'.")
    train = [i for i, part in enumerate(parts) if part in TRAIN]
    report = [i for i, part in enumerate(parts) if part in REPORT]
    if not train:
        raise InputError(f"{str(table)!r} has no row whose split is 'train': there is nothing to train on.")
    return Labelled(classes, whole.take(train), whole.take(report) if report else None, multi, "table")


def number(table: Path, line: int, row: dict[str, str], label: str) -> float:
    """0 or 1 in a cell of a table."""
    text = (row[label] or "").strip()
    if text not in ("0", "1", "0.0", "1.0"):
        raise InputError(f"{str(table)!r}, line {line}, column {label!r}: {shorten(repr(text), 40)} is neither 0 nor 1.")
    return float(text)
