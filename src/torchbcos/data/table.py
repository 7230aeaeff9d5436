"""Labels in a CSV table: every blemish that would mix classes or splits is an error that names its line."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import natural_key, quote
from torchbcos._core.tables import Row, Table, list_columns, read_table
from torchbcos.data.copies import copies_among, copies_in_words, with_twins
from torchbcos.data.grouped import GROUP, groups_of, keep_groups_apart, with_groups
from torchbcos.data.labelled import Labelled, file_split
from torchbcos.data.labels import is_word, label_notes, read_labels, same_label
from torchbcos.data.notes import check_class, count_of, is_special, look_alikes, without_examples
from torchbcos.data.once import Files, apart, once
from torchbcos.data.patients import with_patients
from torchbcos.pictures.find import SUFFIXES

__all__ = ["REPORT", "TRAIN", "open_table"]

_CLASS_WORDS = frozenset({"label", "labels", "target", "category", "class", "classes", "class_name"})

TRAIN, REPORT = ("train", "training"), ("val", "valid", "validation", "test")


def open_table(table: Path, uncertain: str = "error") -> Labelled:
    """A CSV table: `file`, then one column a label, or `class` (or `label` of words); `split` divides it, `group` keeps together.

    Args:
        table: the file.
        uncertain: what a label of -1 means, see `torchbcos.data.labels.read_labels`.

    Raises:
        InputError: a line is wrong, a file has two labels, a file or a group is in two splits; the message names the lines.
    """
    read = read_table(table)
    if "" in read.columns:
        raise InputError(
            f"{quote(table)}, line 1: a column has no name. Is it an index? pandas writes none with to_csv(…, index=False)."
        )
    if "file" not in read.columns or not set(read.columns) - {"file", "split", GROUP}:
        columns = list_columns(read.columns)
        raise InputError(f"{quote(table)} needs a column 'file' and one column a label, or 'class'; it has {columns}.")
    if not read.rows:
        raise InputError(f"{quote(table)} has no rows.")
    named = _find_files(read)
    classes, targets = _read_targets(read, uncertain)
    parts, groups = [_split_of(read, row) for row in read.rows], groups_of(read)
    train, report = (
        _once_each(named.files, targets, [i for i, part in enumerate(parts) if part in names]) for names in (TRAIN, REPORT)
    )
    if not train:
        raise InputError(f"{quote(table)} has no row whose split is 'train': there is nothing to train on.")
    apart(named.files.take(train), named.files.take(report))
    keep_groups_apart(read, groups, {"train": train, "val": report})
    whole = file_split(named.files.paths, targets, table.parent)
    divided = whole.take(train), whole.take(report) if report else None
    copies = copies_among([split for split in divided if split is not None])
    untaught = (*label_notes(classes, targets[[*train, *report]], table), *without_examples(classes, divided[0].targets))
    learned, related = with_patients(with_twins(divided[0], copies), divided[1], copies)
    learned, together = with_groups(learned, [groups[i] for i in train], copies)
    said = (*copies_in_words(*divided, copies), *related, *together)
    notes = (*named.notes, *look_alikes(classes, table), *untaught, *said)
    repeated = len(read.rows) - len(train) - len(report)
    return Labelled(classes, learned, divided[1], targets.dim() > 1, "table", repeated, notes)


def _split_of(table: Table, row: Row) -> str:
    """In which split a row is."""
    if "split" not in table.columns:
        return TRAIN[0]
    part = row["split"].lower()
    if part in TRAIN + REPORT:
        return part
    where = f"{quote(table.file)}, line {row.line}"
    if not part:
        raise InputError(f"{where}: the split is blank; write 'train' or 'val', or leave out the whole column.")
    raise InputError(f"{where}: the split {shorten(repr(part), 60)} is neither 'train' nor 'val'.")


@dataclass(frozen=True)
class _Named:
    """The files that a table names, in its order, and what a person should be told of them."""

    files: Files
    notes: tuple[str, ...]


def _find_files(table: Table) -> _Named:
    """The files of a table's rows; one that does not exist under its name is looked for under other spellings of it.

    Raises:
        InputError: a row names no file.
    """
    paths = []
    for row in table.rows:
        if not row["file"]:
            raise InputError(f"{quote(table.file)}, line {row.line}, names no file.")
        _check_one_line(table, row, "file")
        if GROUP in table.columns:
            _check_one_line(table, row, GROUP)
        paths.append(str(table.file.parent / row["file"]))
    lines = [row.line for row in table.rows]
    folders: dict[str, dict[str, tuple[int, int]]] = {}
    files = Files.named(paths, table=quote(table.file), lines=lines, folders=folders)
    missing = [i for i, key in enumerate(files.keys) if isinstance(key, str)]
    others = {i: other for i in missing if (other := _spelt_otherwise(table.file.parent, table.rows[i]["file"])) is not None}
    if others:
        paths = [others.get(i, path) for i, path in enumerate(paths)]
        files = Files.named(paths, table=quote(table.file), lines=lines, folders=folders)
        missing = [i for i in missing if i not in others]
    missing = [i for i in missing if not os.path.isdir(paths[i])]  # a series of slices, or whoever reads it says what it is
    return _Named(files, (*_missing(table, missing), *_unnamed(table, files, folders)))


def _spelt_otherwise(parent: Path, cell: str) -> str | None:
    """A file that exists for a name that does not: with letters composed otherwise, or slashes for backslashes."""
    cells = [cell] if cell.isascii() else [unicodedata.normalize(form, cell) for form in ("NFC", "NFD", "NFKC")]
    cells += [other.replace("\\", "/") for other in cells] if "\\" in cell else []
    return next((path for other in cells if other != cell and os.path.isfile(path := str(parent / other))), None)


def _missing(table: Table, missing: Sequence[int]) -> tuple[str, ...]:
    """A sentence about rows whose files do not exist: they are examples, and whoever reads them says so again."""
    special = [i for i in missing if is_special(str(table.file.parent / table.rows[i]["file"]))]
    missing = [i for i in missing if i not in set(special)]
    return (*_such(table, missing, "does not exist"), *_such(table, special, "is no regular file (a pipe or a device?)"))


def _such(table: Table, rows: Sequence[int], what: str) -> tuple[str, ...]:
    if not rows:
        return ()
    row = table.rows[rows[0]]
    return (
        f"{count_of(len(rows), 'row')} of {quote(table.file)} {'names' if len(rows) == 1 else 'name'} a file that {what}; "
        f"the first is line {row.line}, {quote(row['file'])}.",
    )


def _unnamed(table: Table, files: Files, folders: dict[str, dict[str, tuple[int, int]]]) -> tuple[str, ...]:
    """A sentence about pictures that lie among those of the table and have no row in it."""
    named, unnamed = set(files.keys), []
    for folder, inside in folders.items():
        wanted = (name for name in inside if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."))
        unnamed += [os.path.join(folder, name) for name in wanted if inside[name] not in named]
    if not unnamed:
        return ()
    return (
        f"{count_of(len(unnamed), 'picture')} among those of {quote(table.file)} {'has' if len(unnamed) == 1 else 'have'} no row "
        f"in it and {'is' if len(unnamed) == 1 else 'are'} not used; the first is {quote(min(unnamed))}.",
    )


def _once_each(files: Files, targets: Tensor, rows: Sequence[int]) -> list[int]:
    """These rows without those that name a file again."""
    return [rows[k] for k in once(files.take(rows), [same_label(targets[i]) for i in rows])]


def _read_targets(table: Table, uncertain: str) -> tuple[tuple[str, ...], Tensor]:
    """The classes of a table, and (N,) int64 classes, or (N, C) float32 of several labels an example."""
    labels = tuple(c for c in table.columns if c not in ("file", "split", GROUP))
    named = _class_column(table, labels)
    if "class" in labels and len(labels) > 1:
        others = ", ".join(repr(c) for c in labels if c != "class")
        raise InputError(
            f"{quote(table.file)} has a column 'class' and {others} beside it: give the class, or a column a label. A column "
            "that says which examples belong together (of one patient, say) is called 'group'."
        )
    if named is None:
        for label in labels:
            check_class(label, f"{quote(table.file)}, line 1")
        return labels, read_labels(table, labels, uncertain)
    found: dict[str, int] = {}
    for row in table.rows:
        if row[named] not in found:
            _check_one_line(table, row, named)
            check_class(row[named], f"{quote(table.file)}, line {row.line}")
            found[row[named]] = row.line
    classes = tuple(sorted(found, key=natural_key))
    places = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([places[row[named]] for row in table.rows])


def _class_column(table: Table, labels: Sequence[str]) -> str | None:
    """The column that holds the classes: `class`, or an only `label` whose cells are all words; None where each label has one.

    A column `label` of 0 and 1, or of numbers between, says whether that label holds, as any other column does.
    """
    if tuple(labels) == ("class",):
        return "class"
    if len(labels) != 1 or labels[0].casefold() not in _CLASS_WORDS:
        return None
    return labels[0] if all(is_word(row[labels[0]]) for row in table.rows) else None


def _check_one_line(table: Table, row: Row, column: str) -> None:
    """Refuse a cell that goes over several lines: a quotation mark that is closed too late swallows the rows between."""
    text = row[column]
    if "\n" in text or "\r" in text:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        raise InputError(
            f"{quote(table.file)}, line {row.line}: the cell of {column!r} goes over {lines + 1} lines, "
            f"{shorten(repr(text), 80)}: a quotation mark is missing at its end, or too many at its beginning."
        )
