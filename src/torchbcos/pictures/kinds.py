"""How files of each kind are told by their names, and DICOM, which often has none, by its first bytes."""

from __future__ import annotations

import os

from torchbcos.pictures.modern import MODERN_SUFFIXES

__all__ = ["ARRAYS", "NUMPY", "SCANS", "SUFFIXES", "begins_as_dicom", "ends_with", "scan_suffix"]

SUFFIXES = (
    ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".apng", ".tif", ".tiff", ".webp", *MODERN_SUFFIXES
)  # fmt: skip
ARRAYS = (".npy",)
SCANS = (".dcm", ".dicom", ".nii", ".nii.gz")
NUMPY = b"\x93NUMPY"  # begins a `.npy` file
_DICOM_AT = 128  # where its mark stands, behind a preamble of anything


def ends_with(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name has one of these suffixes, in any case.

    >>> ends_with("a.NII.gz", SCANS), ends_with(".png", SUFFIXES)
    (True, False)
    """
    name = os.path.basename(os.fspath(path)).lower()
    return name.endswith(suffixes) and name not in suffixes


def begins_as_dicom(file: os.DirEntry[str]) -> bool:
    """Whether a file whose name has no suffix, or a number for one, begins as DICOM does; scanners name files so."""
    suffix = os.path.splitext(file.name)[1][1:]
    if (suffix and not suffix.isdigit()) or not file.is_file():  # a pipe would wait
        return False
    try:
        with open(file.path, "rb") as opened:
            return opened.read(_DICOM_AT + 4)[_DICOM_AT:] == b"DICM"
    except OSError:
        return False


def scan_suffix(data: bytes) -> str | None:
    """The suffix that the bytes of a DICOM or NIfTI file should have; None of other bytes.

    >>> scan_suffix(bytes(128) + b"DICM"), scan_suffix(b"GIF89a")
    ('.dcm', None)
    """
    if data[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
        return ".dcm"
    if data.startswith(b"\x1f\x8b"):  # gzip, as which no picture or array is read
        return ".nii.gz"
    one, two = data[344:348] in (b"n+1\0", b"ni1\0"), data[4:8] in (b"n+2\0", b"ni2\0")
    return ".nii" if one or two else None
