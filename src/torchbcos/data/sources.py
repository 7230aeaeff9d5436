"""Opening labelled data: what lies at a path is recognised, not declared."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import hint, nearby, quote
from torchbcos.data.annotations import BOXES, MASKS
from torchbcos.data.cifar10 import is_cifar10, open_cifar10
from torchbcos.data.copies import copies_among, copies_in_words, with_twins
from torchbcos.data.labelled import Labelled, Split, file_split
from torchbcos.data.labels import check_uncertain
from torchbcos.data.notes import check_class, count_of, look_alikes, passed_over
from torchbcos.data.once import Files, apart, once_walked
from torchbcos.data.patients import with_patients
from torchbcos.data.scanned import WANTED, examples_in
from torchbcos.data.shards import NAMES, open_shards, shards_in
from torchbcos.data.table import REPORT, TRAIN, open_table
from torchbcos.pictures.find import Walked, walk

__all__ = ["folders_of", "open_labelled"]

_TABLE = "labels.csv"
_SHEETS = (".csv", ".tsv", ".xlsx", ".xls", ".ods")


def open_labelled(path: str | os.PathLike[str], *, uncertain: str = "error", volumes: bool = False) -> Labelled:
    """A labelled data set, recognised by what lies at `path`.

    - a folder with a folder of pictures (or `.npy` arrays, DICOM or NIfTI files) for every class; or `train/` and `val/`
      (`valid`, `test`) of such;
    - a `.csv` table, or a folder with `labels.csv`: a column `file` and one column a label (1, 0, a soft label between them, or
      blank where it is not known), or `file` and `class`; an optional column `split` says "train" or "val";
    - a folder of WebDataset tar shards (`train-*.tar`, `val-*.tar`): `key.jpg` with `key.cls`, or `class/name.jpg`;
    - CIFAR-10: its binary version, the one that torchvision downloads, or `train.npz` and `test.npz` of JPEG files.

    What lies there and is not used, byte-identical copies, scans of one patient and classes that look alike are in `notes` of
    the result. A table may
    name any file of the machine; what it names is read as a picture and nothing else.

    Args:
        path: of the data.
        uncertain: what a label of -1 in a table means: "ignore" (not known), "positive" (1), "negative" (0); "error" refuses it.
        volumes: a folder that is one DICOM series is one example; otherwise each of its files is one.

    Raises:
        MissingFileError: there is nothing at `path`.
        InputError: it is none of these, a class is empty or its name none, or something would mix classes or splits: a file with
            two labels or in two splits, a blank cell, a label that may be of several pictures. Errors in tables name the line.

    >>> import tempfile, PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         PIL.Image.new("RGB", (8, 8)).save(f"{folder}/{name}/1.png")
    ...     open_labelled(folder).classes
    ('cat', 'dog')
    """
    place = Path(path)
    check_uncertain(uncertain)
    if not os.path.exists(place):  # which has an answer for names that no file can have, too
        raise MissingFileError(f"There is no data at {quote(place)}.{nearby(place)}")
    if place.is_file():
        if place.suffix.lower() != ".csv":
            raise InputError(f"{str(place)!r} is a file: data is a folder, or a table that ends in .csv.")
        return open_table(place, uncertain)
    if is_cifar10(place):
        return open_cifar10(place)
    if (place / _TABLE).is_file():
        return _with_notes(open_table(place / _TABLE, uncertain), _beside(place, ".tar", f"{_TABLE!r} says what is used"))
    if shards_in(place):
        return _with_notes(open_shards(place), _beside_shards(place))
    return _open_folder(place, volumes=volumes)


def _with_notes(data: Labelled, notes: Sequence[str]) -> Labelled:
    return replace(data, notes=(*data.notes, *notes))


def _beside(place: Path, suffix: str, why: str) -> tuple[str, ...]:
    """A sentence about files of a folder that would be data, did something else not come first."""
    found = sorted(p.name for p in place.iterdir() if p.name.endswith(suffix) and not p.name.startswith("."))
    if not found:
        return ()
    return (f"{count_of(len(found), f'file {suffix}')} in {quote(place)} not used, {quote(found[0])} say: {why}.",)


def _beside_shards(place: Path) -> tuple[str, ...]:
    """Sentences about what lies beside shards and is not read."""
    folders = [p.name for p in _without_annotations(folders_of(place))]
    others = [p for p in _files_in(place) if not p.endswith(".tar") and os.path.basename(p) not in (*NAMES, BOXES)]
    found = [f"Folders in {quote(place)} are not used, {quote(folders[0])} say: shards come first."] if folders else []
    return (*found, *passed_over(others, place))


def _files_in(place: Path) -> list[str]:
    """All but the folders of a folder, hidden ones included."""
    with os.scandir(place) as entries:
        return [entry.path for entry in entries if not entry.is_dir()]


def _open_folder(place: Path, *, volumes: bool) -> Labelled:
    """A folder of classes, or `train/` and `val/` of them."""
    divided = _divide(place)
    notes = list(divided.notes)
    whole = _read_classes(divided.train, None, volumes=volumes)
    report = _read_classes(divided.report, whole.classes, volumes=volumes) if divided.report is not None else None
    if report is not None:
        apart(whole.files, report.files)
    loose = [path for path in _files_in(place) if os.path.basename(path) != BOXES] if divided.train != place else []
    notes += passed_over([*loose, *whole.passed, *(report.passed if report is not None else ())], place)
    notes += look_alikes(whole.classes, place)
    splits = [whole.split] if report is None else [whole.split, report.split]
    copies = copies_among(splits)
    other = report.split if report is not None else None
    train, related = with_patients(with_twins(whole.split, copies), other, copies)
    notes += [*copies_in_words(whole.split, other, copies), *related]
    repeated = whole.repeated + (report.repeated if report is not None else 0)
    return Labelled(whole.classes, train, other, repeated=repeated, notes=tuple(notes))


@dataclass(frozen=True)
class _Divided:
    """Where the classes lie that are trained on, and those that are reported; what of the folder is neither."""

    train: Path
    report: Path | None = None
    notes: tuple[str, ...] = ()


def _divide(place: Path) -> _Divided:
    """Whether the folders of a place are classes or splits: a class may be called 'train', too.

    Splits hold folders, classes hold pictures. Where all folders have names of splits, they are splits.

    Raises:
        InputError: it may be both.
    """
    inside = _without_annotations(folders_of(place))
    train = _first_named(inside, TRAIN)
    others = [p for p in inside if p.name.lower() not in TRAIN + REPORT]
    if train is None or (others and (_holds_files(train) or not folders_of(train))):
        return _Divided(place)
    report = _first_named([p for p in inside if folders_of(p)], REPORT)
    pictured = next((p for p in others if next(walk(p, WANTED), None) is not None), None) if report is None else None
    if pictured is not None:
        raise InputError(
            f"{quote(place)} holds {train.name!r}, with folders in it, and {pictured.name!r}, with pictures. Are the classes in "
            f"{train.name!r}? Then name it: {quote(train)}. Is it a class itself? Then put its pictures into it without folders."
        )
    unused = [p.name for p in inside if p not in (train, report)]
    said = f"{train.name!r} is trained on" + (f", {report.name!r} reported" if report is not None else "")
    notes = (f"Not used in {quote(place)}: {', '.join(map(repr, unused[:5]))}{', …' if unused[5:] else ''} ({said}).",)
    return _Divided(train, report, notes if unused else ())


def _first_named(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The folder with the first of some names that one has, in whatever case; the first in the alphabet of several."""
    folders = sorted(folders)
    return next((p for name in names for p in folders if p.name.lower() == name), None)


def _holds_files(folder: Path) -> bool:
    """Whether pictures or arrays lie in a folder itself."""
    with os.scandir(folder) as entries:
        return any(
            entry.name.lower().endswith(WANTED) and not entry.name.startswith(".") and entry.is_file() for entry in entries
        )


@dataclass(frozen=True)
class _Classes:
    """A folder of classes, read."""

    classes: tuple[str, ...]
    split: Split
    files: Files
    repeated: int
    passed: tuple[str, ...]


def folders_of(place: Path) -> list[Path]:
    """Folders in a folder but hidden ones, by name: the order of the classes."""
    try:
        inside = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {str(place)!r} cannot be read: {error.strerror or error}.") from error
    return sorted(inside, key=lambda p: p.name)


def _read_classes(place: Path, classes: tuple[str, ...] | None, *, volumes: bool) -> _Classes:
    """The classes of a folder (or those given, in their order) and its examples, each real file once.

    Raises:
        InputError: a class is unknown or empty, or one file lies in two classes.
    """
    inside = _without_annotations(folders_of(place))
    known = _names_of(place, inside) if classes is None else {name: i for i, name in enumerate(classes)}
    if len(known) < 2 and classes is None:
        _refuse_lone(place, len(known))
    walked: list[Walked] = []
    targets: list[int] = []
    passed = [path for path in _files_in(place) if os.path.basename(path) != BOXES]
    for folder in inside:
        name = _composed(folder.name)
        if name not in known:
            raise InputError(f"{str(place)!r} has a class {name!r} that the training data lacks.{hint(name, known)}")
        found = examples_in(folder, passed, volumes=volumes)
        if not found:
            raise InputError(f"The class {folder.name!r} in {quote(place)} holds no files that end in {', '.join(WANTED)}.")
        walked += found
        targets += [known[name]] * len(found)
    kept = once_walked(walked, targets)
    split = file_split([walked[i].path for i in kept], torch.tensor([targets[i] for i in kept]), place)
    return _Classes(tuple(known), split, Files.walked(walked[i] for i in kept), len(walked) - len(kept), tuple(passed))


def _refuse_lone(place: Path, count: int) -> None:
    """Say what is missing where there are no two folders."""
    packed = next((p.name for p in place.iterdir() if p.name.endswith((".tar.gz", ".tgz", ".zip", ".tar.zst"))), None)
    if packed is not None:
        raise InputError(f"{str(place)!r} holds {packed!r}: shards are plain .tar files: pack without compression.")
    table = min(
        (p.name for p in place.iterdir() if p.suffix.lower() in _SHEETS and not p.name.startswith((".", "~"))), default=None
    )
    if table is not None:
        what = "give it as the data, or call it" if table.lower().endswith(".csv") else "save it as CSV and call it"
        raise InputError(
            f"{quote(place)} holds no two folders of classes, and a table that is not called '{_TABLE}', {quote(table)}: "
            f"{what} so."
        )
    raise InputError(
        f"{str(place)!r} holds {count} folder{'s' if count != 1 else ''}: a folder for every class is needed, "
        "two at least, with the pictures of the class in it."
    )


def _composed(name: str) -> str:
    """The name of a folder with composed letters (NFC): disks of Macs take them apart."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _names_of(place: Path, folders: Sequence[Path]) -> dict[str, int]:
    """The classes that folders name, and their places.

    Raises:
        InputError: two folders name one class, or one names none.
    """
    known: dict[str, int] = {}
    for folder in folders:
        name = _composed(folder.name)
        check_class(name, f"A folder in {quote(place)}")
        if name in known:
            raise InputError(
                f"{quote(place)} holds two folders {name!r}, whose letters are composed in two ways: make one of them."
            )
        known[name] = len(known)
    return known


def _without_annotations(folders: list[Path]) -> list[Path]:
    """Classes only: `masks/` with folders that are named as its neighbours holds masks of their pictures (`annotations`)."""
    names = {p.name for p in folders}
    return [p for p in folders if not (p.name == MASKS and names & {inner.name for inner in folders_of(p)})]
