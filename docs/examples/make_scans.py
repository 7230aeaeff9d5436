"""Make scans of a phantom, of two classes: a body of 40 Hounsfield units with a bright sphere in it, or a bright cube.

    python make_scans.py scans --count 8

writes the same volumes as DICOM series (scans/series/sphere/00/*.dcm, a folder a series) and as NIfTI
(scans/nifti/sphere/00.nii.gz), and the slice in the middle of each as a picture of its own (scans/slices/sphere/00.dcm).
Needs pydicom and nibabel.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SLICES, SIDE = 24, 64
SPACING = (2.5, 1.5, 1.5)  # millimetres from slice to slice, row to row, column to column


def phantom(kind, rng):
    """Hounsfield units (D, H, W): D grows to the head, H to the back, W to the left."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in (SLICES, SIDE, SIDE)), indexing="ij")
    volume = np.where((y - 31.5) ** 2 / 25**2 + (x - 31.5) ** 2 / 29**2 < 1, 40.0, -1000.0)
    centre = np.array([11.5, 31.5, 31.5]) + rng.uniform(-1, 1, 3) * (2, 8, 10)
    away = np.stack([(g - c) * mm for g, c, mm in zip((z, y, x), centre, SPACING, strict=True)])  # millimetres
    inside = (away**2).sum(axis=0) < 15**2 if kind == "sphere" else abs(away).max(axis=0) < 12
    return np.rint(np.where(inside, 160.0, volume) + rng.normal(0, 15, volume.shape))


def dicom(values, place, series):
    """A slice (H, W) as a DICOM file that says where it lies and which window suits it."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, generate_uid(), series
    data.Modality, data.SeriesDescription, data.InstanceNumber = "CT", "phantom", place + 1
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
    data.WindowCenter, data.WindowWidth = 40, 400
    data.PixelSpacing, data.SliceThickness = list(SPACING[1:]), SPACING[0]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]  # columns to the left, rows to the back
    data.ImagePositionPatient = [0, 0, place * SPACING[0]]
    data.PixelData = np.clip(values + 1024, 0, 4095).astype("<u2").tobytes()
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8, help="volumes of each class")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    for kind in ("sphere", "cube"):
        for name in ("nifti", "slices"):
            (given.folder / name / kind).mkdir(parents=True, exist_ok=True)
        for number in range(given.count):
            volume, series = phantom(kind, rng), generate_uid()
            folder = given.folder / "series" / kind / f"{number:02}"
            folder.mkdir(parents=True, exist_ok=True)
            for place, values in enumerate(volume):
                dicom(values, place, series).save_as(folder / f"{place:03}.dcm", enforce_file_format=True)
            middle = dicom(volume[SLICES // 2], SLICES // 2, generate_uid())
            middle.save_as(given.folder / "slices" / kind / f"{number:02}.dcm", enforce_file_format=True)
            affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1])  # NIfTI counts to the right and to the front
            image = nib.Nifti1Image(volume.transpose(2, 1, 0).astype(np.int16), affine)
            nib.save(image, given.folder / "nifti" / kind / f"{number:02}.nii.gz")


if __name__ == "__main__":
    main()
