"""Where the files of an explanation go, and which of them an earlier run wrote."""

from __future__ import annotations

import bisect
import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import fit_name, panel_name, quote
from torchbcos.cli.common import say

if TYPE_CHECKING:
    from torchbcos.pictures import Found

_SHORT = 100  # bytes of a name that no class name makes too long for a file

__all__ = ["Places", "changed_last", "check_page", "check_writable", "make_folder", "without_results", "write_page"]


@dataclass(frozen=True)
class Places:
    """The names of the files of one run: picture, class and contrast are in each.

    Attributes:
        out: the folder.
        named: what each class is called in file names.
        contrast: the class that each is compared to, by its index.
        suffix: of panels: ".png".
        arrays: whether numbers go into an .npz beside each.
        listed: what was in each folder when it was first looked at.
    """

    out: Path
    named: Sequence[str]
    contrast: int | None = None
    suffix: str = ".png"
    arrays: bool = False
    listed: dict[Path, list[str]] = field(default_factory=dict)

    def panel(self, found: Found, index: int, suffix: str | None = None) -> Path:
        """Where the panel of one explanation of a picture goes; with another suffix, a file beside it."""
        rather = None if self.contrast is None else self.named[self.contrast]
        name = panel_name(found.relative.name, self.named[index], rather, suffix or self.suffix)
        return self.out / found.relative.parent / name

    def numbers(self, found: Found, index: int) -> Path:
        """Where its arrays go."""
        return self.panel(found, index, ".npz")

    def written(self, found: Found, classes: Sequence[int] | None, count: int, since: float) -> list[Path]:
        """The panels of a picture that an earlier run wrote, if they are all that are asked for; else none.

        A file counts if it is newer than the picture, and than `since`. Which classes are the highest is not known before the
        network has run: where `classes` is None, the panels of any `count` classes of this model are taken for them.

        Args:
            found: the picture.
            classes: the classes that are asked for by name; None: the highest.
            count: how many there are.
            since: a time, of the model's files.
        """
        try:
            since = max(since, os.stat(found.path).st_mtime)
        except OSError:  # whoever reads it says what is wrong; what was piped has no time
            return []
        if not self._any(found):
            return []
        asked = range(len(self.named)) if classes is None else dict.fromkeys(classes)
        there = [index for index in asked if self._is_there(found, index, since)]
        return [self.panel(found, index) for index in there] if len(there) >= count else []

    def _any(self, found: Found) -> bool:
        """Whether there may be a file of a picture: quick, for a thousand classes of ten thousand pictures."""
        folder, name = self.out / found.relative.parent, found.relative.name
        if folder not in self.listed:
            try:
                self.listed[folder] = sorted(os.listdir(folder))
            except OSError:
                self.listed[folder] = []
        names = self.listed[folder]
        place = bisect.bisect_left(names, name + ".")
        return fit_name(name, _SHORT) != name or (place < len(names) and names[place].startswith(name + "."))

    def _is_there(self, found: Found, index: int, since: float) -> bool:
        files = [self.panel(found, index), *([self.numbers(found, index)] if self.arrays else [])]
        try:
            return all(os.stat(file).st_mtime > since for file in files)
        except OSError:
            return False


def without_results(found: list[Found], paths: list[str], out: Path) -> list[Found]:
    """Leave out what an earlier run wrote to `out`, unless a path lies in there itself."""
    results = out.resolve()
    if any(Path(path).resolve().is_relative_to(results) for path in paths):
        return found
    kept = [item for item in found if not item.path.resolve().is_relative_to(results)]
    if not kept:
        raise InputError(f"All {len(found)} pictures lie in {str(out)!r}, where explanations go: name another folder with --out.")
    if len(kept) < len(found):
        say(f"torchbcos: {len(found) - len(kept)} pictures in {str(out)!r}, where explanations go, are left out.")
    return kept


def changed_last(source: str) -> float:
    """When a model's files were changed last; 0 for what is no file or folder here."""
    try:
        if not os.path.isdir(source):
            return os.stat(source).st_mtime
        files = [
            entry for folder in (source, os.path.join(source, "model")) if os.path.isdir(folder) for entry in os.scandir(folder)
        ]
        return max((entry.stat().st_mtime for entry in files if entry.is_file()), default=0.0)
    except (OSError, ValueError):
        return 0.0


def make_folder(folder: Path) -> None:
    """Create a folder for pictures, or say why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"Could not make the folder {str(folder)!r}: {_reason(error)}.") from None


def check_writable(out: Path, option: str = "--out") -> None:
    """Raise before any work where nothing could be written: a file of that name, no permission, a read-only disk."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(out)  # or another error: a name that no disk takes
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise InputError(f"{option} {str(out)!r}: {str(there)!r} is a file, not a folder.")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"{option} {str(out)!r}: nothing can be written to {str(there)!r}: {_reason(error)}.") from None


def check_page(page: Path, option: str = "--report") -> None:
    """Raise before any work where a page could not be written: another suffix, a folder of that name, no folder.

    Raises:
        InputError: so it is.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{option} is a page, FILE.html, not {quote(page)}.")
    if page.is_dir() or not page.absolute().parent.is_dir():
        raise InputError(f"{option} {quote(page)}: name a file in a folder that exists.")
    check_writable(page.parent, option)


def write_page(page: Path, words: str) -> None:
    """Write a page whole, or leave an earlier one as it was.

    Raises:
        StateError: it could not be written.
    """
    from torchbcos._core.files import replacing

    try:
        with replacing(page) as partial:
            partial.write_text(words, "utf-8")
    except OSError as error:
        raise StateError(f"Could not write {quote(page)}: {_reason(error)}.") from error


def _reason(error: OSError) -> str:
    """What the operating system says."""
    return error.strerror or type(error).__name__
