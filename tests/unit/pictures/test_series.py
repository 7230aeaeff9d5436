"""Folders of one series: the order of slices, what is refused, what is said."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scans import SECRETS, dicom, plane, save, series
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.pictures import series as reading
from torchbcos.pictures.scans import is_scan, read_scan


def places(scan: Any) -> list[int]:
    """The heights of slices in their order: `series` writes them as values."""
    return [round(value) for value in (scan.pixels[0, :, 0, 0] * 1000).tolist()]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations([0, 5, 10, 15, 20]))
def test_slices_are_ordered_by_place_whatever_their_names_and_numbers(order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scan = read_scan(series(Path(folder), [float(place) for place in order]))
    assert places(scan) == [0, 5, 10, 15, 20]
    assert scan.facts["spacing"] == [5.0, 0.7, 0.5] and scan.facts["orientation"] == "SPL"
    assert (scan.facts["slices"], scan.facts["window"], scan.facts["format"]) == (5, [0.0, 1000.0], "dicom")
    assert "notes" not in scan.facts and "skipped" not in scan.facts


@pytest.mark.parametrize(
    ("directions", "step", "letters"),
    [
        ([1, 0, 0, 0, 1, 0], [0, 0, 2], "SPL"),
        ([1, 0, 0, 0, 0, -1], [0, 2, 0], "PIL"),
        ([0, 1, 0, 0, 0, -1], [-2, 0, 0], "RIP"),
        ([-1, 0, 0, 0, 1, 0], [0, 0, -2], "IPR"),
        ([0.8, 0.6, 0, -0.6, 0.8, 0], [0, 0, 2], "SPL"),
    ],
)
def test_the_normal_is_the_product_of_rows_and_columns(
    directions: list[float], step: list[float], letters: str, tmp_path: Path
) -> None:
    for i in (2, 0, 3, 1):
        position = [i * s for s in step]
        pixels = np.full((4, 5), i, np.uint16)
        save(plane(0, pixels, ImageOrientationPatient=directions, ImagePositionPatient=position), tmp_path / f"{(i * 3) % 4}.dcm")
    scan = read_scan(tmp_path)
    assert places(scan) == [0, 1, 2, 3]
    assert (scan.facts["spacing"][0], scan.facts["orientation"]) == (pytest.approx(2), letters)


def test_what_is_no_slice_is_passed_over_and_counted(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0])
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "Thumbs.db").write_bytes(b"\0" * 500)
    (tmp_path / "empty").touch()
    shutil.copy(tmp_path / "0001", tmp_path / "copy.dcm")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "0002")
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "endless.dcm").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    report = dicom(np.zeros((2, 2), np.uint8))
    for keyword in ("Rows", "Columns", "PixelData", "PhotometricInterpretation"):
        delattr(report, keyword)
    save(report, tmp_path / "report.dcm")
    series(tmp_path / "subfolder", [50.0, 51.0])
    scan = read_scan(tmp_path)
    assert places(scan) == [0, 1, 2]
    assert scan.facts["skipped"] == {"no DICOM": 3, "no picture": 1, "copies": 2}


def test_several_series_are_refused_with_what_they_are_called(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0], SeriesDescription=f"LUNG 1.5 {SECRETS[0].upper()}, {SECRETS[2]} 12.08.1964 {SECRETS[3]}")
    for i in range(2):
        save(plane(i, SeriesInstanceUID="1.9", SeriesDescription="SCOUT\x1b[2J"), tmp_path / f"x{i}")
    save(plane(9, SeriesInstanceUID="1.10"), tmp_path / "y")
    with pytest.raises(InputError) as caught:
        read_scan(tmp_path)
    said = str(caught.value).replace(str(tmp_path), "F")
    assert said == (
        "'F' holds 3 series: 'LUNG 1.5' (files: 3), 'SCOUT\\x1b[2J' (files: 2), one without a name (files: 1). "
        "Move each into a folder of its own."
    )


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    def refused(name: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_scan(tmp_path / name)

    series(tmp_path / "twice", [0.0, 1.0, 1.0, 2.0])
    refused("twice", "4 slices, and 1 of them lie where another one lies")
    series(tmp_path / "sizes", [0.0, 1.0, 2.0])
    save(plane(3, np.zeros((8, 9), np.uint16)), tmp_path / "sizes" / "x")
    refused("sizes", "several sizes: 3 of 4 × 5, 1 of 8 × 9")
    series(tmp_path / "ways", [0.0, 1.0])
    save(plane(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), tmp_path / "ways" / "x")
    refused("ways", "several directions: 2 are parallel to the first and 1 are not")
    series(tmp_path / "spacing", [0.0, 1.0])
    save(plane(2, PixelSpacing=[1.4, 1]), tmp_path / "spacing" / "x")
    refused("spacing", "pixels of several sizes: 0.7 × 0.5 mm, and 1 with others, 1.4 × 1 mm")
    series(tmp_path / "some", [0.0, 1.0])
    save(dicom(np.zeros((4, 5), np.uint16), PixelSpacing=[0.7, 0.5]), tmp_path / "some" / "x")
    refused("some", "3 slices, and 1 of them do not say where they lie")
    series(tmp_path / "gaps", [0.0, 1.0, 2.0, 90.0])
    refused("gaps", "more are missing than are there")
    (tmp_path / "none").mkdir()
    refused("none", "no DICOM file among its 0 files")
    series(tmp_path / "whites", [0.0, 1.0])
    save(plane(2, PhotometricInterpretation="MONOCHROME1"), tmp_path / "whites" / "x")
    refused("whites", "MONOCHROME1 and of MONOCHROME2")
    series(tmp_path / "frames", [0.0, 1.0])
    save(dicom(np.zeros((3, 4, 5), np.uint16)), tmp_path / "frames" / "x")
    refused("frames", "several frames each")
    series(tmp_path / "broken", [0.0, 1.0])
    whole = save(plane(2), tmp_path / "broken" / "x")
    whole.write_bytes(whole.read_bytes()[:-20])
    refused("broken", "less than expected")
    with pytest.raises(MissingFileError):
        reading.dicom_files(tmp_path / "nowhere")


def test_slices_that_are_not_evenly_apart_are_said(tmp_path: Path) -> None:
    scan = read_scan(series(tmp_path / "a", [0.0, 2.0, 4.0, 8.0, 10.0]))
    assert scan.facts["notes"] == [
        "The slices are not evenly apart: 2 mm mostly, 2 mm at least, and 4 mm between slices 3 and 4. "
        "Slices may be missing there."
    ]
    assert scan.facts["spacing"][0] == 2
    assert "notes" not in read_scan(series(tmp_path / "b", [0.0, 2.0, 4.01, 6.0])).facts  # rounded
    for i in range(3):
        save(plane(i, ImagePositionPatient=[0, i * 0.3, i]), tmp_path / "c" / str(i))
    assert "tilted gantry" in read_scan(tmp_path / "c").facts["notes"][0]


def test_without_places_the_numbers_order_and_without_numbers_nothing(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        save(
            dicom(np.full((4, 5), i, np.uint16), InstanceNumber=i + 1, WindowCenter=500.5, WindowWidth=1001), tmp_path / f"a{-i}"
        )
    scan = read_scan(tmp_path)
    assert places(scan) == [0, 1, 2] and scan.facts["spacing"] == [None, None, None]
    assert "instance numbers" in scan.facts["notes"][0]
    save(dicom(np.full((4, 5), 0, np.uint16)), tmp_path / "b")
    with pytest.raises(InputError, match="nothing tells their order"):
        read_scan(tmp_path)


def test_each_slice_has_its_own_slope_and_all_have_one_window(tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.full((4, 5), 100, np.uint16)
        save(plane(i, pixels, RescaleSlope=i + 1, RescaleIntercept=0, WindowCenter=[500.5 + i], Units="BQML"), tmp_path / str(i))
    scan = read_scan(tmp_path)
    assert scan.facts["window"] == [1.0, 1001.0] and scan.facts["unit"] == "BQML"
    np.testing.assert_allclose(scan.pixels[0, :, 0, 0] * 1000, [99, 199, 299], atol=1e-3)
    assert "that of the middle slice" in scan.facts["notes"][0]
    scan = read_scan(tmp_path, value_range=(0, 400))
    np.testing.assert_allclose(scan.pixels[0, :, 0, 0] * 4, [1, 2, 3], atol=1e-6)
    assert "notes" not in scan.facts and scan.facts["window_from"] == "caller"


def test_which_folders_are_scans(tmp_path: Path) -> None:
    assert is_scan(series(tmp_path / "ct", [0.0, 1.0]))
    for i in range(4):  # radiographs, and slices of different patients, stand for themselves
        save(dicom(np.zeros((4, 5), np.uint16), Modality="CR"), tmp_path / "chest" / f"{i}.dcm")
        save(plane(i, SeriesInstanceUID=f"1.{i + 1}"), tmp_path / "slices" / f"{i}.dcm")
    assert not is_scan(tmp_path / "chest") and not is_scan(tmp_path / "slices")
    assert not is_scan(tmp_path) and not is_scan(tmp_path / "nowhere") and not is_scan("a\0b")
    (tmp_path / "words.txt").write_text("DICM")
    assert not is_scan(tmp_path / "words.txt") and is_scan(tmp_path / "slices" / "0.dcm")
    series(tmp_path / "two", [0.0, 1.0])
    series(tmp_path / "two" / "more", [0.0, 1.0, 2.0], SeriesInstanceUID="1.7")
    for path in sorted((tmp_path / "two" / "more").iterdir()):
        path.rename(tmp_path / "two" / f"x{path.name}")
    assert is_scan(tmp_path / "two")  # to read it says what is wrong


def test_one_slice_or_one_file_of_frames_in_a_folder(tmp_path: Path) -> None:
    series(tmp_path / "one", [3.0])
    assert read_scan(tmp_path / "one", axes=2).pixels.shape == (1, 4, 5)
    with pytest.raises(InputError, match="holds one slice"):
        read_scan(tmp_path / "one", axes=3)
    save(dicom(np.zeros((3, 4, 5), np.uint16)), tmp_path / "frames" / "x")
    assert read_scan(tmp_path / "frames").pixels.shape == (1, 3, 4, 5)
    series(tmp_path / "two", [3.0, 4.0])
    with pytest.raises(InputError, match="series of 2 slices, and a picture is wanted"):
        read_scan(tmp_path / "two", axes=2)


def test_limits_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path, [0.0, 1.0, 2.0])
    monkeypatch.setattr(reading, "MAX_NUMBERS", 59)
    with pytest.raises(InputError, match="60 numbers in 3 slices"):
        read_scan(tmp_path)
    monkeypatch.setattr(reading, "MAX_NUMBERS", 60)
    assert read_scan(tmp_path).pixels.numel() == 60
    with pytest.raises(InputError, match="more than 2 files"):
        reading.dicom_files(tmp_path, most=2)


def test_a_dose_has_its_distances(tmp_path: Path) -> None:
    frames = np.arange(60, dtype=np.uint32).reshape(3, 4, 5)
    said = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0], "DoseGridScaling": 0.5,
            "DoseUnits": "GY", "Modality": "RTDOSE", "PixelSpacing": [2, 3]}  # fmt: skip
    scan = read_scan(save(dicom(frames, GridFrameOffsetVector=[0, -4, -8], **said), tmp_path / "a"), value_range=(0, 30))
    np.testing.assert_allclose(scan.pixels[0], frames[::-1] / 60, atol=1e-6)
    assert (scan.facts["spacing"], scan.facts["orientation"], scan.facts["unit"]) == ([4.0, 2.0, 3.0], "SPL", "GY")


def test_a_volume_of_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3)).astype(np.uint8)
    scan = read_scan(save(dicom(pixels, SamplesPerPixel=3), tmp_path / "a"))
    np.testing.assert_allclose(scan.pixels, np.moveaxis(pixels, -1, 0) / 255, atol=1e-6)
    assert scan.pixels.is_contiguous()


def test_elements_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    """pydicom looks at a value when it is asked for, long after the file is closed."""
    series(tmp_path, [0.0, 1.0, 2.0])
    file = tmp_path / "0002"
    whole = file.read_bytes()
    for kind in (b"Cd", b"FD"):
        file.write_bytes(whole.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00" + kind))
        assert is_scan(tmp_path) in (True, False)
        try:
            read_scan(tmp_path)
        except InputError as error:
            assert "no DICOM" in str(error)
        file.write_bytes(whole.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00" + kind))
        with pytest.raises(InputError):
            read_scan(tmp_path)
