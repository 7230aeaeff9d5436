"""Scans among labelled data: what an example is, with and without volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torchbcos.data import open_labelled
from torchbcos.data.scanned import examples_in

pytest.importorskip("pydicom")


def slices(folder: Path, count: int, *, suffix: str = ".dcm", series: str = "1.2.3") -> None:
    """A CT series of small slices, written by pydicom itself."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        one = pydicom.Dataset()
        one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, generate_uid(), "CT"
        one.SeriesInstanceUID = one.FrameOfReferenceUID = series
        one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 6, 8, 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2.0 * k], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.RescaleSlope, one.RescaleIntercept = [1, 1], 1, -1024
        one.WindowCenter, one.WindowWidth, one.InstanceNumber = 40, 400, k
        one.PixelData = np.full((6, 8), 1000 + 10 * k, np.uint16).tobytes()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID, one.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.save_as(folder / f"IM{k:03}{suffix}", enforce_file_format=True)


@pytest.mark.parametrize("suffix", [".dcm", "", ".1.2.840"])
def test_a_folder_that_is_a_series_is_one_example_of_volumes(suffix: str, tmp_path: Path) -> None:
    for name in ("ill", "well"):
        for patient in ("p1", "p2"):
            slices(tmp_path / name / patient, 3, suffix=suffix, series=f"1.2.{len(name)}.{patient[1]}")
    (tmp_path / "ill" / "p1" / "notes.txt").write_text("not a scan")
    volumes, pictures = open_labelled(tmp_path, volumes=True), open_labelled(tmp_path)
    assert volumes.train.names == ["ill/p1", "ill/p2", "well/p1", "well/p2"] and len(pictures) == 12
    assert volumes.train.targets.tolist() == [0, 0, 1, 1]
    for found in (volumes, pictures):
        assert any("notes.txt" in note for note in found.notes) and not any("IM00" in note for note in found.notes)
    assert volumes.train.item(0)[1] == str(tmp_path / "ill" / "p1")


def test_a_table_may_name_a_series(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        slices(tmp_path / patient, 2, series=f"1.2.{patient[1]}")
    (tmp_path / "labels.csv").write_text("file,class\np1,a\np2,b\n")
    found = open_labelled(tmp_path, volumes=True)
    assert found.train.names == ["p1", "p2"] and not any("exist" in note for note in found.notes)


def test_other_packed_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.gz", "b.NII.GZ", "c.npy", "d.png", "e.nii", "f.txt", ".g.dcm", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    passed: list[str] = []
    names = [Path(file.path).name for file in examples_in(tmp_path, passed)]
    assert names == ["a.gz", "b.NII.GZ", "c.npy", "d.png", "e.nii", "f.txt"]  # by its first bytes, a.gz and f.txt are DICOM
    assert sorted(Path(path).name for path in passed) == [".g.dcm", "DICOMDIR"]
