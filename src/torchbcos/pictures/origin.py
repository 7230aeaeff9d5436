"""Whose a scan is: enough to tell scans of one patient, study or series from others, and nothing that names anybody."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.names import quote
from torchbcos.pictures.dicom import has_magic, open_regular, quiet, read_header

__all__ = ["LEVELS", "Origin", "origin_of"]

LEVELS = ("patient", "study", "series")  # from the coarsest on
_ELEMENTS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
_SALT = os.urandom(32)  # of this process, and never written: what is made with it can be compared here and nowhere else
# what stands in the place of a patient's number when it was taken away
_NOBODY = re.compile(r"anon(ym(ous|i[sz]ed)?)?|unknown|none|null|n/?a|(de-?)?identified|removed|deleted|[0x*.?-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """A number for the patient, the study and the series of a scan; None where its file says none.

    The numbers are other ones in each process, and tell nothing but whether two scans have the same.
    """

    patient: bytes | None = None
    study: bytes | None = None
    series: bytes | None = None


def origin_of(path: str | os.PathLike[str]) -> Origin:
    """Whose a DICOM file is, or the first of a folder of such: a part of its header is read, once.

    Raises:
        MissingPackageError: pydicom is not installed.
        MissingFileError, InputError: it is not there, or no DICOM.
    """
    name = quote(path)
    file = _first_in(path, name) if os.path.isdir(path) else path
    with quiet(name, "DICOM file"):
        header = read_header(file, name, only=_ELEMENTS)
        return Origin(*(_number(str(header.get(key) or ""), key) for key in _ELEMENTS))


def _number(text: str, key: str) -> bytes | None:
    text = text.strip().strip("\0")
    if not text or (key == _ELEMENTS[0] and _NOBODY.fullmatch(text)):
        return None
    return hashlib.blake2b(f"{key}={text}".encode(errors="surrogateescape"), key=_SALT, digest_size=16).digest()


def _first_in(folder: str | os.PathLike[str], name: str) -> str:
    """A DICOM file of a folder.

    Raises:
        InputError: there is none.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file() and _begins(entry.path):
                    return entry.path
    except OSError as error:
        raise InputError(f"{name} cannot be searched: {error.strerror or error}.") from error
    raise InputError(f"{name} holds no DICOM file.")


def _begins(path: str) -> bool:
    try:
        file, _ = open_regular(path, quote(path))
        with file:
            return has_magic(file.read(132))
    except (BcosError, OSError):
        return False
