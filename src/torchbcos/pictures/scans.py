"""Scans of hospitals: DICOM files and series, and NIfTI volumes, as numbers in [0, 1] with what their files say of them."""

from __future__ import annotations

import os

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote
from torchbcos.pictures.dicom import has_magic
from torchbcos.pictures.nifti import is_nifti, read_nifti
from torchbcos.pictures.samples import Range, check_range
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.series import is_series, read_dicom, read_series

__all__ = ["is_scan", "read_scan"]

_ENDS = (".dcm", ".dicom")


def is_scan(path: str | os.PathLike[str]) -> bool:
    """Whether `read_scan` is the one to read a file or a folder: DICOM, a folder of slices of DICOM, `.nii`, `.nii.gz`.

    Files are told by their first bytes or their suffix, whatever else is in them; a folder is one if its DICOM files are
    slices of a volume, not pictures that stand for themselves (radiographs, ultrasound).

    >>> is_scan("photo.jpg"), is_scan("brain.nii.gz")
    (False, True)
    """
    text = os.fspath(path)
    if os.path.isdir(text):
        return is_series(text)
    if is_nifti(text) or text.lower().endswith(_ENDS):
        return True
    try:
        if not os.path.isfile(text):
            return False
        with open(text, "rb") as file:
            return has_magic(file.read(132))
    except (OSError, ValueError):
        return False


def read_scan(path: str | os.PathLike[str], *, axes: int | None = None, value_range: Range | None = None) -> Scan:
    """Read a DICOM file, a folder that holds one DICOM series, or a NIfTI file.

    Pictures are (C, H, W), volumes (C, D, H, W). A series has its slices in the order of their places along the normal; a NIfTI
    volume is turned so that D grows to the head, H to the back and W to the patient's left, as an axial series is.

    Args:
        path: of the file or folder.
        axes: axes of space that are wanted: 2 pictures, 3 volumes; None takes what is there.
        value_range: the values, Hounsfield units in a CT, that become 0 and 1. None: the file's own window, else the range of
            the stored bits (DICOM); a NIfTI file without a window whose numbers are neither bytes nor in [0, 1] is refused.

    Returns:
        A Scan with float32 in [0, 1]. Its facts never hold a name, a number or a date of a patient.

    Raises:
        MissingPackageError: pydicom or nibabel is not installed.
        MissingFileError: there is no such file.
        InputError: it is broken, too large, of another kind, or several series.

    >>> import tempfile
    >>> import nibabel as nib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1.0, 1, 2, 1])), f"{folder}/a.nii")
    ...     scan = read_scan(f"{folder}/a.nii", value_range=(-160, 240))
    >>> tuple(scan.pixels.shape), scan.facts["spacing"], scan.facts["window"]
    ((1, 6, 5, 4), [2.0, 1.0, 1.0], [-160.0, 240.0])
    """
    limits = check_range(value_range)
    if axes not in (None, 2, 3):
        raise InputError(f"{quote(path)} is a scan of pictures or volumes, 2 or 3 axes of space; {axes} are wanted.")
    if os.path.isdir(path):
        return read_series(path, axes=axes, limits=limits)
    if is_nifti(path):
        return read_nifti(path, axes=axes, limits=limits)
    return read_dicom(path, axes=axes, limits=limits)
