"""The column `group` of a table: recordings of one patient, say, which look alike and stay on one side of every division."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import quote
from torchbcos._core.tables import Row, Table
from torchbcos.data.labelled import Split
from torchbcos.data.notes import count_of
from torchbcos.data.patients import growing_sets

__all__ = ["GROUP", "groups_of", "keep_groups_apart", "with_groups"]

GROUP = "group"
_TRUTHS = {"0", "1", "0.0", "1.0", "true", "false"}
_Place = tuple[int, int]  # split, example


def groups_of(table: Table) -> list[str]:
    """The group of every row, "" where it is none but its own.

    Raises:
        InputError: the column is one of labels, or a file is in two groups; the message names the lines.
    """
    if GROUP not in table.columns:
        return [""] * len(table.rows)
    names = [row[GROUP] for row in table.rows]
    if "class" not in table.columns and any(names) and {name.lower() for name in names if name} <= _TRUTHS:
        raise InputError(
            f"{quote(table.file)}, line 1: the column 'group' holds 0 and 1 only. It says which examples belong together, of one "
            "patient, say: give groups names (p01, p02). If it is a label, give the label another name."
        )
    first: dict[str, tuple[int, str]] = {}
    for row in table.rows:
        line, name = first.setdefault(row["file"], (row.line, row[GROUP]))
        if name != row[GROUP]:
            raise InputError(
                f"{quote(table.file)}, lines {line} and {row.line}: {quote(row['file'])} is named twice, and the two groups "
                "differ."
            )
    return names


def keep_groups_apart(table: Table, names: Sequence[str], parts: Mapping[str, Sequence[int]]) -> None:
    """Refuse groups that would be trained on and reported.

    Args:
        table: for messages.
        names: of `groups_of`.
        parts: the rows of "train" and of "val".

    Raises:
        InputError: a group is in both; the message names the lines.
    """
    trained: dict[str, Row] = {}
    for i in parts["train"]:
        trained.setdefault(names[i], table.rows[i])
    for i in parts["val"]:
        if names[i] and names[i] in trained:
            lines = sorted((trained[names[i]].line, table.rows[i].line))
            raise InputError(
                f"{quote(table.file)}, lines {lines[0]} and {lines[1]}: the group {shorten(repr(names[i]), 80)} is trained on "
                "and reported: the result would say little about other groups. Give all of a group one split."
            )


def with_groups(train: Split, names: Sequence[str], copies: Iterable[Sequence[_Place]]) -> tuple[Split, tuple[str, ...]]:
    """The split to train on, which knows its groups, and a sentence on them.

    Args:
        train: may know already what of it belongs together: scans of one patient.
        names: of the group of each example; "" for none but its own.
        copies: sets of byte-identical examples, see `torchbcos.data.copies.copies_among`.
    """
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name or f"\0{i}", []).append(i)
    if len(members) == len(names):
        return train, ()
    count = count_of(len(train), "example")
    if len(members) == 1:
        return train, (
            f"All {count} to train on are of one group: what is held out of them looks like what is trained on, and the result "
            "says little about other groups.",
        )
    find, join = growing_sets()
    known: dict[int, list[int]] = {}
    for i, group in enumerate(train.groups or ()):
        known.setdefault(group, []).append(i)
    twins = ([i for s, i in places if s == 0] for places in copies)
    for together in (*members.values(), *known.values(), *twins):
        for i in together[1:]:
            join((0, together[0]), (0, i))
    groups = tuple(find((0, i))[1] for i in range(len(train)))
    note = f"{count} to train on are of {len(members):,} groups: those of one group stay on one side."
    return replace(train, groups=groups, kin=GROUP), (note,)
