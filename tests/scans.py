"""Scans for tests: DICOM files and NIfTI volumes, made as pydicom and nibabel write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
}
SECRETS = ("Mustermann", "Erika", "PAT4711", "19640812", "20230405", "ACC99887", "Dr. Geheim", "Klinikum Nord")


def dicom(pixels: NDArray[Any], encoding: str = "explicit", **elements: Any) -> Dataset:
    """A CT of one frame (H, W), of several (D, H, W), or of RGB (H, W, 3) with `SamplesPerPixel=3`; it names a patient."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = NATIVE[encoding]
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, pydicom.uid.generate_uid()
    data.SeriesInstanceUID = "1.2.3.4"
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{SECRETS[0]}^{SECRETS[1]}", SECRETS[2], SECRETS[3]
    data.StudyDate, data.AccessionNumber, data.ReferringPhysicianName = SECRETS[4], SECRETS[5], SECRETS[6]
    data.InstitutionName, data.Modality = SECRETS[7], "CT"
    samples = elements.get("SamplesPerPixel", 1)
    shape = pixels.shape[:-1] if samples == 3 else pixels.shape
    data.Rows, data.Columns = shape[-2:]
    if len(shape) == 3:
        data.NumberOfFrames = shape[0]
    data.SamplesPerPixel, data.PhotometricInterpretation = samples, "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        data.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    order = ">" if encoding == "big" else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data["PixelData"] = pydicom.DataElement("PixelData", "OW" if bits > 8 else "OB", raw + bytes(len(raw) % 2))
    if encoding == "rle":
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless, generate_instance_uid=False)
    return data


def save(data: Dataset, path: Path) -> Path:
    """Write a file as other programs would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pydicom.config.disable_value_validation():
        data.save_as(path, enforce_file_format=True)
    return path


def plane(place: float, pixels: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """An axial slice at a height in millimetres; its pixels tell its place."""
    values = np.full((4, 5), round(place), np.uint16) if pixels is None else pixels
    said: dict[str, Any] = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [-10, -20, place], "PixelSpacing": [0.7, 0.5],
        "WindowCenter": 500.5, "WindowWidth": 1001, **elements,
    }  # fmt: skip
    return dicom(values, **said)


def series(folder: Path, places: list[float], **elements: Any) -> Path:
    """A folder with an axial slice at each height, named against their order."""
    for i, place in enumerate(places):
        save(plane(place, InstanceNumber=i + 1, **elements), folder / f"{len(places) - i:04}")
    return folder
