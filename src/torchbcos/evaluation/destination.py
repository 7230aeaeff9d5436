"""Where results go: refused before anything is computed, where they would spoil the data or could not be written."""

from __future__ import annotations

import os
from pathlib import Path

from torchbcos._core.errors import InputError
from torchbcos._core.names import fit_name, quote

__all__ = ["check_folder", "check_name", "keep_out_of"]


def keep_out_of(data: str | os.PathLike[str], *folders: str | os.PathLike[str] | None) -> None:
    """Refuse to write folders into the data: they would be classes of it from then on.

    Args:
        data: a folder of pictures; anything else has no inside.
        folders: that will be written; None: nothing is written.

    Raises:
        InputError: one is the data's folder, or lies in it.
    """
    inside = Path(data)
    if not inside.is_dir():
        return
    for folder in folders:
        if folder is not None and Path(folder).resolve().is_relative_to(inside.resolve()):
            raise InputError(
                f"{quote(str(folder))} lies in the data, {quote(str(data))}, where it would be taken for a class from then on: "
                "choose a folder outside (--out)."
            )


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse what is no folder and cannot become one.

    Raises:
        InputError: a file has its name.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{quote(str(folder))} is a file, and a folder of this name is to be written: choose another (--out).")


def check_name(name: str) -> None:
    """Refuse what no file name can begin with.

    Raises:
        InputError: it holds a slash, say.

    >>> check_name("a/b")
    Traceback (most recent call last):
    torchbcos._core.errors.InputError: The name of a comparison is the beginning of file names, compare-1, say; not 'a/b'.
    """
    if name != fit_name(name, 200) or not name or name.startswith(".") or "\\" in name:
        raise InputError(f"The name of a comparison is the beginning of file names, compare-1, say; not {quote(name)}.")
