"""Labels of which several may hold: 1, 0, soft ones between, uncertain ones (-1) and unknown ones (blank).

An unknown label is NaN in the targets: losses and metrics leave it out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import hint, quote
from torchbcos._core.tables import Row, Table
from torchbcos.data.notes import count_of

__all__ = ["UNCERTAIN", "check_uncertain", "is_word", "label_notes", "never_known", "read_labels", "same_label"]

UNCERTAIN = ("error", "ignore", "positive", "negative")
_MEANS = {"ignore": float("nan"), "positive": 1.0, "negative": 0.0}
_WORDS = {"true": "1", "false": "0", "": "nan"}
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_UNSURE = re.compile(r"-1(\.0*)?")


def check_uncertain(uncertain: str) -> str:
    """The word for what uncertain labels (-1) mean.

    Raises:
        InputError: there is no such word; the nearest is named.
    """
    if uncertain not in UNCERTAIN:
        words = ", ".join(map(repr, UNCERTAIN))
        raise InputError(f"uncertain must be one of {words}, not {uncertain!r}.{hint(str(uncertain), UNCERTAIN)}")
    return uncertain


def read_labels(table: Table, labels: Sequence[str], uncertain: str = "error") -> Tensor:
    """The labels of every row: (N, C) float32 in [0, 1], NaN where one is not known.

    Args:
        table: has a column a label.
        labels: its columns.
        uncertain: what -1 means: "ignore" (not known), "positive" (1), "negative" (0); "error" refuses it.

    Raises:
        InputError: a cell holds something else; the message names its line and column.
    """
    for row in table.rows:
        if row.missing:
            raise InputError(
                f"{quote(table.file)}, line {row.line}, has {count_of(len(table.columns) - row.missing, 'cell')}, and there are "
                f"{len(table.columns)} columns: a label that is not known is a blank cell, with its comma."
            )
    return torch.tensor([[_number(table, row, label, uncertain) for label in labels] for row in table.rows])


def _number(table: Table, row: Row, label: str, uncertain: str) -> float:
    """The label in a cell."""
    text = _WORDS.get(row[label].casefold(), row[label])
    if text in ("0", "1", "nan") and row[label].casefold() != "nan":
        return float(text)
    where = f"{quote(table.file)}, line {row.line}, column {shorten(repr(label), 80)}"
    if _UNSURE.fullmatch(text):
        if uncertain in _MEANS:
            return _MEANS[uncertain]
        raise InputError(
            f"{where}: -1 is no label. If it says that nobody is certain, say what to make of it: uncertain='ignore' leaves it "
            "out, 'positive' takes it as 1, 'negative' as 0 (train --set uncertain=ignore, evaluate --uncertain ignore)."
        )
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise InputError(
            f"{where}: {shorten(repr(row[label]), 40)} is neither 0 nor 1, nor a number between them (a soft label), nor blank "
            f"(a label that is not known).{_meant(table, row, label)}"
        )
    return float(text)


def _meant(table: Table, row: Row, label: str) -> str:
    """What to do where the only label holds a word: it may be the class."""
    alone = len([column for column in table.columns if column not in ("file", "split", "group")]) == 1
    return " Is it the class? Call the column 'class'." if alone and is_word(row[label]) else ""


def is_word(text: str) -> bool:
    """Whether a cell holds a word, which no label of 0, 1 or between is.

    >>> is_word("cat"), is_word("class 1"), [is_word(text) for text in ("1", "0,5", "1e-3", "-1", "", "True", "NaN")]
    (True, True, [False, False, False, False, False, False, False])
    """
    number = _NUMBER.fullmatch(text) or text.casefold() in (*_WORDS, "nan")
    return not number and any(letter.isalpha() for letter in text)


def same_label(targets: Tensor) -> object:
    """What a label is compared by: unknown equals unknown, as NaN does not equal NaN.

    >>> same_label(torch.tensor([1.0, float("nan")])) == same_label(torch.tensor([1.0, float("nan")]))
    True
    """
    if targets.dim() == 0:
        return targets.item()
    return [None if value != value else value for value in targets.tolist()]


def never_known(classes: Sequence[str], targets: Tensor) -> list[str]:
    """The labels of which no example says whether they hold.

    >>> never_known(["a", "b"], torch.tensor([[1.0, float("nan")]]))
    ['b']
    """
    if targets.dim() == 1:
        return []
    return [name for name, lost in zip(classes, targets.isnan().all(0).tolist(), strict=True) if lost]


def label_notes(classes: Sequence[str], targets: Tensor, place: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sentences about labels that are not known, and about soft ones.

    >>> label_notes(["a"], torch.tensor([[1.0], [float("nan")], [0.5]]), "t.csv")[0]
    "1 of 3 labels in 't.csv' is not known: left out of the loss and of metrics."
    """
    if targets.dim() == 1:
        return ()
    unknown, soft = int(targets.isnan().sum()), int(((targets > 0) & (targets < 1)).sum())
    found = []
    if unknown:
        are = "is" if unknown == 1 else "are"
        found.append(
            f"{unknown:,} of {targets.numel():,} labels in {quote(place)} {are} not known: left out of the loss and of metrics."
        )
    if soft:
        found.append(
            f"{count_of(soft, 'label')} in {quote(place)} {'is' if soft == 1 else 'are'} soft, between 0 and 1: trained on as "
            "they are; metrics ask whether they are above 0.5."
        )
    lost = never_known(classes, targets)
    if lost:
        more = f" ({len(lost):,} such labels)" if lost[1:] else ""
        found.append(f"Nothing in {quote(place)} says whether {shorten(repr(lost[0]), 80)} holds{more}.")
    return tuple(found)
