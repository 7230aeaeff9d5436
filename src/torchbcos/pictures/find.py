"""Finding pictures: files, folders and patterns become a list in natural order, each with a place for its output."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError
from torchbcos._core.names import natural_key, nearby, quote
from torchbcos.pictures.form import Form
from torchbcos.pictures.kinds import ARRAYS, SCANS, SUFFIXES, begins_as_dicom, ends_with
from torchbcos.pictures.scans import is_scan

__all__ = ["SUFFIXES", "Found", "Walked", "find_images", "is_pattern", "key_of", "walk"]

_MAGIC = frozenset("*?[")


class Walked(NamedTuple):
    """A file that `walk` met.

    Attributes:
        path: the folder's path and the file's below it.
        key: the device and the number on it: the same for all names, links and hard links, of one file. Some disks give
            one number to several files; `os.path.samefile` is sure.
        linked: whether it is a link, or lies below one.
    """

    path: str
    key: tuple[int, int]
    linked: bool


@dataclass(frozen=True)
class Found:
    """A picture that was found.

    Attributes:
        path: where it lies.
        relative: where its output goes, relative to the output folder. No two pictures of one search have the same,
            not even after their suffixes are replaced, or on a disk that ignores case.
    """

    path: Path
    relative: Path


def find_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, errors: list[BcosError] | None = None,
    form: Form | None = None,
) -> list[Found]:  # fmt: skip
    """List the pictures that files, folders and patterns name; or the arrays and scans, for a classifier that takes them.

    A file is taken whatever its suffix says. A folder is walked recursively, in natural order, for picture suffixes;
    hidden files are skipped, each real folder is walked once, so links that lead in circles end. A pattern (`*`, `?`,
    `[…]`, `**`) is one only where no file of that very name exists. A picture named twice is listed once.

    Args:
        paths: one path or several.
        errors: where the errors of single paths go; the others are still searched. None: the first one is raised.
        form: of the classifier's inputs (`Preprocess.form`); it says what is looked for in folders, and by patterns without a
            suffix. RGB pictures: pictures; only where there is none `.npy`, DICOM and NIfTI, for arrays beside photos are mostly
            labels. Grey pictures: all of these, each DICOM file one. Volumes: `.npy`, NIfTI, DICOM, a folder of whose slices is
            one input. Signals and pictures of other channels: `.npy`. None: pictures.

    Returns:
        The pictures, in the order of `paths`.

    Raises:
        ArgumentTypeError: a path is neither a str nor a pathlib.Path.
        InputError: a folder holds no picture or may not be read, or no path was given.
        MissingFileError: a path does not exist, or nothing matches a pattern.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder, "b10.png").touch(), Path(folder, "b9.png").touch())
    ...     [str(found.relative) for found in find_images(folder)]
    ['b9.png', 'b10.png']
    """
    items = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if not isinstance(items, Iterable) or isinstance(items, (bytes, bytearray)):
        raise ArgumentTypeError(f"A path must be a str or a pathlib.Path, got {type(paths).__name__}.")
    pictures: dict[str, Path] = {}
    roots: list[str] = []
    given = False
    for item in items:
        given = True
        if not isinstance(item, (str, os.PathLike)):
            raise ArgumentTypeError(f"A path must be a str or a pathlib.Path, got {type(item).__name__}.")
        try:
            root, found = _resolve(os.fspath(item), _Search(form))
        except BcosError as error:
            if errors is None:
                raise
            errors.append(error)
            continue
        roots.append(os.path.abspath(root))
        for path in found:
            pictures.setdefault(os.path.abspath(path), Path(path))
    if not given:
        raise InputError("No path was given: name a picture, a folder or a pattern.")
    return _place(pictures, roots)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pattern: it has wildcards, and there is no file of that very name.

    >>> is_pattern("photos/*.jpg"), is_pattern("photos/a.jpg")
    (True, False)
    """
    text = os.fspath(path)
    return isinstance(text, str) and bool(_MAGIC & set(text)) and "\0" not in text and not os.path.lexists(text)


class _Search:
    """What is looked for in folders for a classifier of one form."""

    def __init__(self, form: Form | None) -> None:
        numbers = (*ARRAYS, *(SCANS if form is not None and form.takes_scans else ()))
        pictures = SUFFIXES if form is None or form.takes_pictures else ()
        self.form, self.what = form, "pictures" if form is None else f"{form.kind}s"
        self.spare = numbers if form is not None and form.is_rgb else ()
        self.first = pictures if form is None or form.is_rgb else (*pictures, *numbers)

    def folder(self, folder: str) -> list[str]:
        """What is found in a folder and below.

        Raises:
            InputError: nothing is.
        """
        found = self.below(folder)
        if not found:
            kinds = ", ".join((*self.first, *self.spare))
            raise InputError(f"The folder {quote(folder)} holds no {self.what}; files ending in {kinds} are looked for.")
        return sorted(found, key=_order)

    def below(self, folder: str) -> list[str]:
        """The same, in no order, and perhaps nothing."""
        return self._walked(folder, self.first) or (self._walked(folder, self.spare) if self.spare else [])

    def is_one(self, folder: str) -> bool:
        """Whether a folder is one input: a series of slices, where volumes are taken."""
        return self.form is not None and self.form.axes == 3 and is_scan(folder)

    def takes(self, path: str) -> bool:
        """Whether a file that a pattern matches is meant, where the pattern says nothing of suffixes."""
        return ends_with(path, (*self.first, *self.spare))

    def _walked(self, folder: str, suffixes: tuple[str, ...]) -> list[str]:
        dicom = set(SCANS) <= set(suffixes)
        found, whole = list[str](), dict[str, bool]()
        for file in walk(folder, suffixes, bare=dicom):
            place = os.path.dirname(file.path)
            slice_ = dicom and not ends_with(file.path, (*SUFFIXES, *ARRAYS, ".nii", ".nii.gz"))
            if slice_ and place not in whole:
                whole[place] = self.is_one(place)
                found += [place] if whole[place] else []
            if not (slice_ and whole[place]):
                found.append(file.path)
        return found


def _resolve(text: str, search: _Search) -> tuple[str, list[str]]:
    """The folder that a path's pictures are relative to, and the pictures."""
    if not text or "\0" in text:
        raise InputError(f"{quote(text)} is no path: name a picture, a folder or a pattern.")
    try:
        if os.path.isdir(text):
            found = search.folder(text)
            whole = [os.path.normpath(path) for path in found] == [os.path.normpath(text)]
            return os.path.dirname(os.path.abspath(text)) if whole else text, found
        if os.path.exists(text):
            return os.path.dirname(text) or ".", [text]
        if os.path.lexists(text):
            raise MissingFileError(f"{quote(text)} is a link to something that does not exist.")
        if _MAGIC & set(text):
            return _matches(text, search)
    except BcosError:  # MissingFileError is an OSError too
        raise
    except OSError as error:
        raise InputError(f"{quote(text)} cannot be searched: {error.strerror or error}.") from error
    raise MissingFileError(f"{quote(text)} does not exist.{nearby(text)}")


def walk(
    folder: str | os.PathLike[str], suffixes: tuple[str, ...] = SUFFIXES, passed: list[str] | None = None, *, bare: bool = False
) -> Iterator[Walked]:
    """The files below a folder that end in one of `suffixes`, in whatever case; those of one folder in no order.

    Hidden files and folders are left out. Each real folder is walked once, however many links lead to it, so links in circles
    end; folders that only links lead to come last. A file with two names is met twice, with the same `key`.

    Args:
        folder: where to begin.
        suffixes: in lower case.
        passed: gets what is passed over: other files, links that lead nowhere, hidden files and folders.
        bare: DICOM files without a suffix, or with a number for one, are met, too: they are told by their first bytes.

    Raises:
        InputError: a folder may not be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.PNG").touch(), Path(folder, "loop").symlink_to("."), Path(folder, "a.txt").touch()
    ...     [os.path.relpath(file.path, folder) for file in walk(folder)]
    ['a.PNG']
    """
    for place in _folders(os.fspath(folder)):
        if passed is not None:
            passed += [os.path.join(place.path, name) for name in place.hidden]
        for entry in place.entries:
            if (ends_with(entry.name, suffixes) or (bare and begins_as_dicom(entry))) and entry.is_file():
                yield Walked(
                    os.path.join(place.path, entry.name), key_of(entry, place.device), place.linked or entry.is_symlink()
                )
            elif passed is not None and not entry.is_dir():
                passed.append(os.path.join(place.path, entry.name))


def key_of(entry: os.DirEntry[str], device: int) -> tuple[int, int]:
    """`Walked.key` of a file in a folder on a device: only a link costs a look at the disk."""
    if not entry.is_symlink():
        return device, entry.inode()
    there = entry.stat()
    return there.st_dev, there.st_ino


@dataclass(frozen=True)
class _Place:
    """A folder on a walk: its entries but hidden ones, the names of those, and whether a link led to it."""

    path: str
    entries: list[os.DirEntry[str]]
    hidden: list[str]
    device: int
    linked: bool


def _folders(folder: str) -> Iterator[_Place]:
    """A folder and all below it but hidden ones: each real folder once, links only after all that is no link."""
    waiting, links, seen = [(folder, False)], list[str](), set[tuple[int, int]]()
    while waiting or links:
        path, linked = waiting.pop() if waiting else (links.pop(0), True)
        real, entries, hidden = _look(path)
        if real in seen:
            continue
        seen.add(real)
        yield _Place(path, entries, hidden, real[0], linked)
        inner = (entry for entry in entries if entry.is_dir())
        for entry in sorted(inner, key=lambda entry: natural_key(entry.name), reverse=True):
            below = os.path.join(path, entry.name)
            if entry.is_symlink():
                links.append(below)
            else:
                waiting.append((below, linked))


def _look(folder: str) -> tuple[tuple[int, int], list[os.DirEntry[str]], list[str]]:
    """What tells a folder from all others, by whatever path it is reached, its entries but hidden ones, the names of those."""
    try:
        found = os.stat(folder)
        with os.scandir(folder) as entries:
            inside = list(entries)
    except OSError as error:
        raise InputError(f"The folder {quote(folder)} cannot be read: {error.strerror or error}.") from error
    shown = [entry for entry in inside if not entry.name.startswith(".")]
    return (found.st_dev, found.st_ino), shown, [entry.name for entry in inside if entry.name.startswith(".")]


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise InputError(f"The folder {quote(folder)} cannot be read: {error.strerror or error}.") from error


def _matches(pattern: str, search: _Search) -> tuple[str, list[str]]:
    """The folder before the first wildcard, and what matches; folders that match are walked."""
    path = Path(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    fixed = 0
    while fixed < len(parts) - 1 and (not _MAGIC & set(parts[fixed]) or os.path.lexists(Path(path.anchor, *parts[: fixed + 1]))):
        fixed += 1
    base = str(Path(path.anchor, *parts[:fixed]))
    suffix = os.path.splitext(parts[-1])[1]
    any_suffix = bool(suffix) and not _MAGIC & set(suffix)
    found: set[str] = set()
    for match in _expand(base, parts[fixed:]) if os.path.isdir(base) else ():
        if os.path.isdir(match):
            found.update(search.below(match))
        elif os.path.isfile(match) and (any_suffix or search.takes(match)):
            found.add(match)
    if not found:
        what = search.what.removesuffix("s")
        raise MissingFileError(f"No {what} matches {quote(pattern)}.{nearby(os.path.join(base, parts[-1]))}")
    return base, sorted(found, key=_order)


def _expand(base: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Paths below `base` that match a pattern, part by part; a part that names an entry exactly is no pattern."""
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for place in _folders(base) if os.path.isdir(base) else ():
            yield from _expand(place.path, rest)
    elif os.path.lexists(os.path.join(base, part)):
        yield from _expand(os.path.join(base, part), rest)
    elif os.path.isdir(base):
        for entry in _list(base):
            hidden = entry.startswith(".") and not part.startswith(".")
            if not hidden and fnmatch.fnmatchcase(entry, part):
                yield from _expand(os.path.join(base, entry), rest)


def _place(pictures: dict[str, Path], roots: list[str]) -> list[Found]:
    """Give every picture its place: its path below the folder that all roots share."""
    try:
        shared = os.path.commonpath(roots) if roots else ""
    except ValueError:  # several drives
        shared = ""
    taken: set[str] = set()
    found = []
    for absolute, path in pictures.items():
        relative = Path(os.path.relpath(absolute, shared)) if shared else Path(absolute.replace(":", "").lstrip("/\\"))
        if relative.name.lower().endswith(".nii.gz"):  # a suffix of two parts
            relative = relative.with_suffix("")
        elif relative.suffix and os.path.isdir(absolute):  # a series in "1.2.840": no part of its name is a suffix
            relative = relative.with_name(f"{relative.name}.dcm")
        stem, number = relative.with_suffix(""), 1
        if _key(stem) in taken and relative.suffix:
            stem = relative.with_suffix("").with_name(f"{stem.name}-{relative.suffix[1:]}")
        while _key(stem) in taken:
            number += 1
            stem = relative.with_suffix("").with_name(f"{relative.stem}-{number}")
        taken.add(_key(stem))
        found.append(Found(path, stem.with_name(stem.name + relative.suffix)))
    return found


def _key(stem: Path) -> str:
    return str(stem).casefold()


def _order(path: str) -> list[list[tuple[int, int, str]]]:
    return [natural_key(part) for part in Path(path).parts]
