"""Each real file is one example: a link, a hard link or a repeated row must not multiply it, nor carry it between splits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote
from torchbcos.pictures.find import Walked, key_of

__all__ = ["Files", "apart", "once", "once_walked"]

_Key = tuple[int, int] | str


@dataclass(frozen=True)
class Files:
    """Files, and what tells each from the others: the `key` of `torchbcos.pictures.Walked`, or a path where there is no file.

    Attributes:
        paths: as somebody named them.
        keys: one a path.
        table: the table that names them, in quotation marks; "" where a folder does.
        lines: its lines, one a path.
    """

    paths: tuple[str, ...]
    keys: tuple[_Key, ...]
    table: str = ""
    lines: tuple[int, ...] = ()

    @staticmethod
    def walked(found: Iterable[Walked]) -> Files:
        """Files that `torchbcos.pictures.walk` met."""
        found = tuple(found)
        return Files(tuple(file.path for file in found), tuple(file.key for file in found))

    @staticmethod
    def named(
        paths: Iterable[str],
        *,
        table: str = "",
        lines: Sequence[int] = (),
        folders: dict[str, dict[str, tuple[int, int]]] | None = None,
    ) -> Files:
        """Files that somebody named; they may be missing.

        Every folder is listed once, which on a network disk is far quicker than a question for every file.

        Args:
            paths: of the files.
            table, lines: who named them, for messages.
            folders: gets what lies in the folders: folder -> name of a file -> its key.
        """
        folders = {} if folders is None else folders
        paths, keys = tuple(paths), list[_Key]()
        for path in paths:
            folder, name = os.path.split(path)
            if folder not in folders:
                folders[folder] = _keys_in(folder)
            keys.append(folders[folder].get(name) or os.path.abspath(path))
        return Files(paths, tuple(keys), table, tuple(lines))

    def take(self, chosen: Sequence[int]) -> Files:
        """The files at these places."""
        paths, keys = tuple(self.paths[i] for i in chosen), tuple(self.keys[i] for i in chosen)
        return Files(paths, keys, self.table, tuple(self.lines[i] for i in chosen) if self.lines else ())

    def where(self, i: int, other: Files, j: int) -> str:
        """The beginning of a sentence about file i of these and file j of others: the lines that name them, if a table does."""
        if not self.lines or not other.lines:
            return ""
        a, b = sorted((self.lines[i], other.lines[j]))
        return f"{self.table}, lines {a} and {b}: "


def once(files: Files, targets: Sequence[object]) -> list[int]:
    """The places of all files but those that are further names of earlier ones.

    Args:
        files: in order.
        targets: what each file shows.

    Raises:
        InputError: the names of one file have different targets.
    """
    known, kept = _Known(), list[int]()
    for i, (path, key) in enumerate(zip(files.paths, files.keys, strict=True)):
        earlier = known.add(i, path, key)
        if earlier is None:
            kept.append(i)
        elif targets[earlier] != targets[i]:
            other = "is named twice" if files.paths[earlier] == path else f"is the same file as {quote(files.paths[earlier])}"
            where, cure = (
                files.where(earlier, files, i),
                "one of the two lines" if files.lines else "one of the two names, or the link",
            )
            raise InputError(f"{where}{quote(path)} {other}, and the two labels differ: remove {cure}.")
    return kept


def once_walked(walked: Sequence[Walked], targets: Sequence[object]) -> list[int]:
    """The places of all files that were found below folders, but those that are further names of others, in order.

    A file's own name comes before the links to it, whichever is first in the alphabet: masks and boxes go by names.

    Args:
        walked: in any order.
        targets: what each file shows.

    Raises:
        InputError: the names of one file have different targets.
    """
    order = sorted(range(len(walked)), key=lambda i: walked[i].linked)
    return sorted(order[k] for k in once(Files.walked(walked[i] for i in order), [targets[i] for i in order]))


def apart(train: Files, report: Files) -> None:
    """Refuse files that would be trained on and reported.

    Raises:
        InputError: a file is in both.
    """
    known = _Known()
    for i, (path, key) in enumerate(zip(train.paths, train.keys, strict=True)):
        known.add(i, path, key)
    for i, (path, key) in enumerate(zip(report.paths, report.keys, strict=True)):
        earlier = known.find(path, key)
        if earlier is not None:
            raise InputError(
                f"{report.where(i, train, earlier)}{quote(path)}, which is reported, is the same file as "
                f"{quote(train.paths[earlier])}, which is trained on: the result would say nothing about other pictures. "
                "Remove one of the two, or the link."
            )


class _Known:
    """Files that were met, told apart by their keys first.

    A key costs nothing, but some network disks give one key to all their files. So where two keys are alike, the disk is asked
    about both files, and that answer counts.
    """

    def __init__(self) -> None:
        self.first: dict[_Key, tuple[int, str]] = {}
        self.exact: dict[_Key, int] = {}

    def find(self, path: str, key: _Key) -> int | None:
        """The place at which this file was met first, under whatever name, or None."""
        if key not in self.first:
            return None
        place, earlier = self.first[key]
        self.exact.setdefault(_ask(earlier), place)
        return self.exact.get(_ask(path))

    def add(self, i: int, path: str, key: _Key) -> int | None:
        """`find`; a file that is new is known from now on, as met at place `i`."""
        found = self.find(path, key)
        if key not in self.first:
            self.first[key] = i, path
        elif found is None:
            self.exact[_ask(path)] = i
        return found


def _ask(path: str) -> _Key:
    try:
        found = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    return found.st_dev, found.st_ino


def _keys_in(folder: str) -> dict[str, tuple[int, int]]:
    keys: dict[str, tuple[int, int]] = {}
    try:
        device = os.stat(folder or ".").st_dev
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.is_file():  # a link that leads nowhere is none
                    keys[entry.name] = key_of(entry, device)
    except OSError:  # whoever reads the files says what is wrong with them
        return {}
    return keys
