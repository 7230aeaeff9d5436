"""Opening labelled data: what lies at a path is recognised, not declared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, shorten
from torchbcos._core.names import hint, natural_key, nearby, quote
from torchbcos._core.tables import Row, Table, read_table
from torchbcos.data.annotations import MASKS
from torchbcos.data.cifar10 import is_cifar10, open_cifar10
from torchbcos.data.labelled import FileReader, Labelled, Split
from torchbcos.data.once import Files, apart, once
from torchbcos.data.shards import open_shards, shards_in
from torchbcos.pictures.find import SUFFIXES, Walked, walk

__all__ = ["file_split", "folders_of", "open_labelled", "relative_to"]

_TRAIN, _REPORT = ("train", "training"), ("val", "valid", "validation", "test")
_TABLE = "labels.csv"
_WANTED = (*SUFFIXES, ".npy")


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
        raise MissingFileError(f"There is no data at {quote(place)}.{nearby(place)}")
    if place.is_file():
        if place.suffix.lower() != ".csv":
            raise InputError(f"{str(place)!r} is a file: data is a folder, or a table that ends in .csv.")
        return _open_table(place)
    if is_cifar10(place):
        return open_cifar10(place)
    if (place / _TABLE).is_file():
        return _open_table(place / _TABLE)
    if shards_in(place):
        return open_shards(place)
    return _open_folder(place)


def _open_folder(place: Path) -> Labelled:
    """A folder of classes, or `train/` and `val/` of them."""
    found = {name.name.lower(): name for name in folders_of(place)}
    train = next((found[n] for n in _TRAIN if n in found), None)
    whole = _read_classes(place if train is None else train, None)
    report = next((found[n] for n in _REPORT if n in found and train is not None), None)
    if report is None:
        return Labelled(whole.classes, whole.split, repeated=whole.repeated)
    other = _read_classes(report, whole.classes)
    apart(whole.files, other.files)
    return Labelled(whole.classes, whole.split, other.split, repeated=whole.repeated + other.repeated)


@dataclass(frozen=True)
class _Classes:
    """A folder of classes, read."""

    classes: tuple[str, ...]
    split: Split
    files: Files
    repeated: int


def folders_of(place: Path) -> list[Path]:
    """Folders in a folder but hidden ones, by name: the order of the classes."""
    try:
        inside = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {str(place)!r} cannot be read: {error.strerror or error}.") from error
    return sorted(inside, key=lambda p: p.name)


def _read_classes(place: Path, classes: tuple[str, ...] | None) -> _Classes:
    """The classes of a folder (or those given, in their order) and its examples, each real file once.

    Raises:
        InputError: a class is unknown or empty, or one file lies in two classes.
    """
    inside = _without_annotations(folders_of(place))
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
    walked: list[Walked] = []
    targets: list[int] = []
    for folder in inside:
        found = sorted(walk(folder, _WANTED), key=lambda file: natural_key(file.path))
        if not found:
            raise InputError(f"The class {folder.name!r} in {quote(place)} holds no files that end in {', '.join(_WANTED)}.")
        walked += found
        targets += [known.index(folder.name)] * len(found)
    # a file's own name before the links to it, whichever is first in the alphabet: masks and boxes go by names
    order = sorted(range(len(walked)), key=lambda i: walked[i].linked)
    files = Files.walked(walked[i] for i in order)
    kept = sorted(order[k] for k in once(files, [targets[i] for i in order]))
    split = file_split([walked[i].path for i in kept], torch.tensor([targets[i] for i in kept]), place)
    return _Classes(known, split, Files.walked(walked[i] for i in kept), len(walked) - len(kept))


def _without_annotations(folders: list[Path]) -> list[Path]:
    """Classes only: `masks/` with folders that are named as its neighbours holds masks of their pictures (`annotations`)."""
    names = {p.name for p in folders}
    return [p for p in folders if not (p.name == MASKS and names & {inner.name for inner in folders_of(p)})]


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


def _open_table(table: Path) -> Labelled:
    """A CSV table: `file`, then one column a label, or `class`; `split` may divide it."""
    read = read_table(table)
    if "file" not in read.columns or len(read.columns) < 2:
        columns = ", ".join(read.columns)
        raise InputError(f"{quote(table)} needs a column 'file' and one column a label, or 'class'; it has {columns}.")
    if not read.rows:
        raise InputError(f"{quote(table)} has no rows.")
    classes, targets = _read_targets(read)
    short = next((row.line for row in read.rows if not row["file"]), None)
    if short is not None:
        raise InputError(f"{quote(table)}, line {short}, names no file.")
    parts = [row.cells.get("split", "").strip().lower() or _TRAIN[0] for row in read.rows]
    for row, part in zip(read.rows, parts, strict=True):
        if part not in _TRAIN + _REPORT:
            raise InputError(f"{quote(table)}, line {row.line}: the split {part!r} is neither 'train' nor 'val'.")
    paths = [str(table.parent / row["file"]) for row in read.rows]
    train, report = (
        _once_each(paths, targets, [i for i, part in enumerate(parts) if part in names]) for names in (_TRAIN, _REPORT)
    )
    if not train:
        raise InputError(f"{quote(table)} has no row whose split is 'train': there is nothing to train on.")
    apart(*(Files.named(paths[i] for i in rows) for rows in (train, report)))
    whole = file_split(paths, targets, table.parent)
    return Labelled(classes, whole.take(train), whole.take(report) if report else None, targets.dim() > 1, "table",
                    len(paths) - len(train) - len(report))  # fmt: skip


def _once_each(paths: Sequence[str], targets: Tensor, rows: Sequence[int]) -> list[int]:
    """These rows without those that name a file again."""
    return [rows[k] for k in once(Files.named(paths[i] for i in rows), [targets[i].tolist() for i in rows])]


def _read_targets(table: Table) -> tuple[tuple[str, ...], Tensor]:
    """The classes of a table, and (N,) int64 classes, or (N, C) float32 of several labels an example."""
    labels = tuple(c for c in table.columns if c not in ("file", "split"))
    if "class" in labels and len(labels) > 1:
        others = ", ".join(repr(c) for c in labels if c != "class")
        raise InputError(f"{quote(table.file)} has a column 'class' and {others} beside it: give the class, or a column a label.")
    if labels != ("class",):
        return labels, torch.tensor([[_number(table.file, row, label) for label in labels] for row in table.rows])
    classes = tuple(sorted({row["class"] for row in table.rows}, key=natural_key))
    places = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([places[row["class"]] for row in table.rows])


def _number(table: Path, row: Row, label: str) -> float:
    """0 or 1 in a cell of a table."""
    text = row[label].strip()
    if text not in ("0", "1", "0.0", "1.0"):
        raise InputError(f"{quote(table)}, line {row.line}, column {label!r}: {shorten(repr(text), 40)} is neither 0 nor 1.")
    return float(text)
