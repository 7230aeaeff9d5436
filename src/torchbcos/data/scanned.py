"""Scans among labelled data: DICOM files with and without a suffix, NIfTI files, and folders that are one series each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from torchbcos._core.names import natural_key
from torchbcos.data.labelled import ARRAY
from torchbcos.pictures.find import SUFFIXES, Walked, walk
from torchbcos.pictures.scans import is_scan

__all__ = ["ENDS", "WANTED", "examples_in"]

_PLAIN = (".dcm", ".dicom", ".ima", ".nii")
ENDS = (*_PLAIN, ".nii.gz")
WANTED = (*SUFFIXES, ARRAY, *ENDS)
_WALKED = (*SUFFIXES, ARRAY, *_PLAIN, ".gz")
_INDEX = "dicomdir"  # a table of contents in DICOM's form, which holds no picture


def examples_in(folder: str | os.PathLike[str], passed: list[str], *, volumes: bool = False) -> list[Walked]:
    """The examples below a folder, in natural order.

    Args:
        folder: of a class.
        passed: gets what is passed over.
        volumes: a folder that is one DICOM series is one example; otherwise each of its files is.
    """
    others: list[str] = []
    found = []
    for file in walk(folder, _WALKED, others):
        if file.path.lower().endswith(".gz") and not file.path.lower().endswith(ENDS):
            others.append(file.path)
        else:
            found.append(file)
    for path in others:  # hospitals' files often have no suffix, or a number's last part as one
        if not os.path.basename(path).startswith(".") and os.path.basename(path).lower() != _INDEX and is_scan(path):
            found.append(_walked(path))
        else:
            passed.append(path)
    if volumes:
        found = _by_series(found)
    return sorted(found, key=lambda file: natural_key(file.path))


def _by_series(found: Sequence[Walked]) -> list[Walked]:
    """The examples, with a folder in place of the slices of the one series that it holds."""
    pictures = (*SUFFIXES, ARRAY, ".nii", ".nii.gz")
    folders = Counter(os.path.dirname(file.path) for file in found if not file.path.lower().endswith(pictures))
    series = {folder for folder, count in folders.items() if count > 1 and is_scan(folder)}
    rest = [file for file in found if os.path.dirname(file.path) not in series or file.path.lower().endswith(pictures)]
    return [*rest, *map(_walked, _sorted(series))]


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=natural_key)


def _walked(path: str) -> Walked:
    """A file or folder as `torchbcos.pictures.walk` would give it."""
    found = os.stat(path)
    return Walked(path, (found.st_dev, found.st_ino), os.path.islink(path))
