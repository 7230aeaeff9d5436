"""Labelled pictures whose classes go by several names: one subfolder a class, or a flat folder with a CSV file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import hint, quote
from torchbcos._core.tables import read_rows, tidy
from torchbcos.data.labelled import Split, file_split
from torchbcos.data.notes import count_of
from torchbcos.data.once import Files, once
from torchbcos.data.sources import folders_of
from torchbcos.pictures import find_images

__all__ = ["open_named"]

# Columns that may name the class, in order of preference; PredictionString is what Kaggle's ImageNet files have.
_COLUMNS = ("index", "wnid", "synset", "class", "label", "target", "name", "predictionstring")


def open_named(
    folder: str | Path, known: Mapping[str, int], labels: str | Path | None = None, *, notes: list[str] | None = None
) -> Split:
    """The pictures of a labelled folder, each with the index of its class.

    Either every subfolder is a class, named by any of its names; or the pictures lie in one folder and a CSV file gives their
    classes: the first column is the file (its suffix may be missing), the class is in a column named 'index', 'wnid', 'class',
    'label' or 'name', or else in the second one.

    Args:
        folder: the pictures.
        known: the names of the classes in lower case, with their indices; a class may have several (for ImageNet the wnid
            'n01440764', the name 'tench' and the index '0').
        labels: the CSV file; None takes subfolders, or the only CSV file in a folder without.
        notes: gets sentences about pictures that are there and not used, names that are there twice, and numbers
            that may be too dark.

    Returns:
        A split whose names are paths relative to the folder.

    Raises:
        InputError: an unknown class, no pictures, or nothing that gives the classes.
        MissingFileError: there is no such folder or file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"There is no folder {str(root)!r}.")
    inner = folders_of(root)
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    if labels is None and inner:
        rows = _from_folders(inner, known)
        return _noted(_split_of(root, rows), root, rows, notes)
    if labels is None and len(tables) != 1:
        found = f"{len(tables)} CSV files" if tables else "no CSV file"
        raise InputError(
            f"{str(root)!r} has neither subfolders, one a class, nor one CSV file of labels (there is {found}): "
            "give the file with --labels."
        )
    table = tables[0] if labels is None else Path(labels)
    rows, lines = _from_table(root, table, known)
    return _noted(_split_of(root, rows, quote(table), lines), root, rows, notes)


def _noted(split: Split, root: Path, rows: Sequence[tuple[Path, int]], notes: list[str] | None) -> Split:
    """The split; and what a person should know of it."""
    if notes is None:
        return split
    given = {path for path, _ in rows}
    unused = [found.path for found in find_images(root) if found.path not in given]
    if unused:
        notes.append(
            f"{count_of(len(unused), 'picture')} in {quote(root)} without a class, not used; the first is {quote(unused[0])}."
        )
    if len(rows) > len(split):
        notes.append(
            f"{count_of(len(rows) - len(split), 'further name')} of the same files in {quote(root)}: each file counts once."
        )
    notes += split.remarks(ranged=False)
    return split


def _split_of(root: Path, rows: Sequence[tuple[Path, int]], table: str = "", lines: Sequence[int] = ()) -> Split:
    files, targets = [str(path) for path, _ in rows], [index for _, index in rows]
    kept = once(Files.named(files, table=table, lines=lines), targets)
    return file_split([files[i] for i in kept], torch.tensor([targets[i] for i in kept]), root)


def _from_folders(folders: Sequence[Path], known: Mapping[str, int]) -> list[tuple[Path, int]]:
    """The pictures of one folder a class; empty folders are passed over."""
    rows: list[tuple[Path, int]] = []
    for folder in folders:
        index = _class_of(folder.name, known, f"The subfolder {folder.name!r} is no class of this model")
        empty: list[BcosError] = []
        rows += [(found.path, index) for found in find_images(folder, errors=empty)]
    if not rows:
        raise InputError(f"There are no pictures in the {len(folders)} subfolders of {str(folders[0].parent)!r}.")
    return rows


def _from_table(root: Path, table: Path, known: Mapping[str, int]) -> tuple[list[tuple[Path, int]], list[int]]:
    """The pictures that a CSV file names, and the lines that do."""
    lines = [(number, [tidy(cell) for cell in row]) for number, row in read_rows(table)]
    if not lines:
        raise InputError(f"{str(table)!r} is empty: expected a line a picture, its file and its class.")
    rows = [row for _, row in lines]
    files, shared = _by_name(root)
    head = [cell.casefold() for cell in rows[0]]
    column = next((head.index(name, 1) for name in _COLUMNS if name in head[1:]), 0)
    titled = bool(column) or (rows[0][0] not in files and _find_class(head[-1], known) is None)
    found, numbers = [], []
    for number, row in lines[titled:]:
        place = f"{table.name}, line {number}"
        if len(row) <= max(column, 1):
            raise InputError(f"{place}: expected a file and its class, got {shorten(repr(row), 200)}.")
        if row[0] in shared:
            raise InputError(
                f"{place}: {shorten(repr(row[0]), 200)} may be any of several files in {str(root)!r}: give its suffix."
            )
        if row[0] not in files:
            raise InputError(f"{place}: there is no picture {shorten(repr(row[0]), 200)} in {str(root)!r}.")
        text = row[column or 1]
        numbers.append(number)
        found.append((files[row[0]], _class_of(text, known, f"{place}: {shorten(repr(text), 100)} is no class of this model")))
    if not found:
        raise InputError(f"{str(table)!r} names no picture.")
    return found, numbers


def _by_name(root: Path) -> tuple[dict[str, Path], set[str]]:
    """The pictures below a folder by their names with and without suffix, and the names without suffix that several share."""
    files = {tidy(found.path.relative_to(root).as_posix()): found.path for found in find_images(root)}
    stems = Counter(name.rpartition(".")[0] for name in files)
    shared = {stem for stem, count in stems.items() if count > 1 and stem not in files}
    return {**{name.rpartition(".")[0]: path for name, path in files.items()}, **files}, shared


def _class_of(text: str, known: Mapping[str, int], complaint: str) -> int:
    """The index of a class by any of its names."""
    index = _find_class(text, known)
    if index is None:
        raise InputError(f"{complaint}.{hint(text, known)} Expected a class name, an index, or for ImageNet a wnid.")
    return index


def _find_class(text: str, known: Mapping[str, int]) -> int | None:
    """The index of a class, or None; of 'wnid 1 2 30 40 …' (Kaggle's boxes) only the wnid counts."""
    folded = text.strip().casefold()
    first = folded.partition(" ")[0]
    wnid = first if first[:1] == "n" and first[1:].isdecimal() else folded
    number = str(int(folded)) if folded.isdecimal() and len(folded) < 20 else folded  # Python refuses to read long numbers
    return next((known[name] for name in (folded, folded.replace("_", " "), number, wnid) if name in known), None)
