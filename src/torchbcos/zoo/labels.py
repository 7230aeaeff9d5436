"""Which picture of a labelled folder shows which class: one subfolder a class, or a flat folder with a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import hint
from torchbcos.pictures import find_images
from torchbcos.zoo.card import Card, imagenet_wnids

# Columns that say the class, the surest first; PredictionString is what Kaggle's ImageNet files have.
COLUMNS = ("index", "wnid", "synset", "class", "label", "target", "name", "predictionstring")


def read_labels(folder: str | Path, card: Card, labels: str | Path | None = None) -> list[tuple[Path, int]]:
    """The pictures of a labelled folder, each with the index of its class.

    Either every subfolder is a class, named by its wnid ('n01440764', ImageNet only), its class
    name or its index; or the pictures lie in one folder and a CSV file tells their classes: the
    first column is the file (its suffix may be missing), the class is in a column named 'index',
    'wnid', 'class', 'label' or 'name', or else in the second one.

    Args:
        folder: the pictures.
        card: whose classes are meant.
        labels: the CSV file; None takes subfolders, or the only CSV file in a folder without.

    Raises:
        InputError: an unknown class, no pictures, or no way to tell classes.
        MissingFileError: there is no such folder or file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"There is no folder {str(root)!r}.")
    known = names_of(card)
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    if labels is None and inner:
        return from_folders(inner, known)
    if labels is None and len(tables) != 1:
        found = f"{len(tables)} CSV files" if tables else "no CSV file"
        raise InputError(
            f"{str(root)!r} has neither subfolders, one a class, nor one CSV file of labels (there is {found}): "
            "give the file with --labels."
        )
    return from_table(root, tables[0] if labels is None else Path(labels), known)


def names_of(card: Card) -> dict[str, int]:
    """Everything that a class may be called, in lower case, with its index: wnid before name before number."""
    names = card.class_names()
    known = {name.casefold(): i for i, name in reversed(list(enumerate(names)))}
    if card.classes == "imagenet":
        known = {**known, **{wnid: i for i, wnid in enumerate(imagenet_wnids())}}
    return {**{str(i): i for i in range(len(names))}, **known}


def from_folders(folders: Sequence[Path], known: Mapping[str, int]) -> list[tuple[Path, int]]:
    """The pictures of one folder a class; empty folders are passed over."""
    rows: list[tuple[Path, int]] = []
    for folder in folders:
        index = class_of(folder.name, known, f"The subfolder {folder.name!r} is no class of this model")
        empty: list[BcosError] = []
        rows += [(found.path, index) for found in find_images(folder, errors=empty)]
    if not rows:
        raise InputError(f"There are no pictures in the {len(folders)} subfolders of {str(folders[0].parent)!r}.")
    return rows


def from_table(root: Path, table: Path, known: Mapping[str, int]) -> list[tuple[Path, int]]:
    """The pictures that a CSV file names."""
    rows = read_table(table)
    files = {found.path.relative_to(root).as_posix(): found.path for found in find_images(root)}
    files = {**{name.rpartition(".")[0]: path for name, path in files.items()}, **files}
    head = [cell.strip().casefold() for cell in rows[0]]
    column = next((head.index(name, 1) for name in COLUMNS if name in head[1:]), 0)
    titled = bool(column) or (rows[0][0] not in files and find_class(head[-1], known) is None)
    found = []
    for number, row in list(enumerate(rows, 1))[titled:]:
        place = f"{table.name}, line {number}"
        if len(row) <= max(column, 1):
            raise InputError(f"{place}: expected a file and its class, got {shorten(repr(row), 200)}.")
        if row[0] not in files:
            raise InputError(f"{place}: there is no picture {shorten(repr(row[0]), 200)} in {str(root)!r}.")
        text = row[column or 1]
        found.append((files[row[0]], class_of(text, known, f"{place}: {shorten(repr(text), 100)} is no class of this model")))
    if not found:
        raise InputError(f"{str(table)!r} names no picture.")
    return found


def read_table(table: Path) -> list[list[str]]:
    """The rows of a CSV file that are not empty."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise MissingFileError(f"There is no file of labels {str(table)!r}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(table)!r} cannot be read as CSV: {shorten(str(error), 200)}.") from None
    if not rows:
        raise InputError(f"{str(table)!r} is empty: expected a line a picture, its file and its class.")
    return rows


def class_of(text: str, known: Mapping[str, int], complaint: str) -> int:
    """The index of a class by any of its names."""
    index = find_class(text, known)
    if index is None:
        raise InputError(f"{complaint}.{hint(text, known)} Expected a class name, an index, or for ImageNet a wnid.")
    return index


def find_class(text: str, known: Mapping[str, int]) -> int | None:
    """The index of a class, or None; boxes that follow a wnid in Kaggle's files are passed over."""
    folded = text.strip().casefold()
    first = folded.partition(" ")[0]
    wnid = first if first[:1] == "n" and first[1:].isdigit() else folded
    number = str(int(folded)) if folded.isdecimal() else folded
    return next((known[name] for name in (folded, folded.replace("_", " "), number, wnid) if name in known), None)
