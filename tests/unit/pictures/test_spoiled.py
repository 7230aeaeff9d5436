"""Slices that were lost or stand on another scale than their neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from tests.scans import plane, save
from torchbcos.pictures.scans import read_scan

DRAW = np.random.default_rng(0)


def notes(folder: Path, odd: dict[int, dict[str, Any]], *, flat: tuple[int, ...] = (), **every: Any) -> list[str]:
    """Of a series of six slices, some of which say something else; None leaves an element out."""
    for i in range(6):
        pixels = np.zeros((8, 9), np.uint16) if i in flat else DRAW.integers(0, 1000, (8, 9)).astype(np.uint16)
        said = {"RescaleSlope": 1, "RescaleIntercept": -1024, "Modality": "CT", **every, **odd.get(i, {})}
        save(plane(i, pixels, **{key: value for key, value in said.items() if value is not None}), folder / str(i))
    found: list[str] = read_scan(folder).facts.get("notes", [])
    return found


BARE: dict[str, Any] = {"RescaleSlope": None, "RescaleIntercept": None}


def test_slices_of_another_scale(tmp_path: Path) -> None:
    assert notes(tmp_path / "same", {}) == []
    (one,) = notes(tmp_path / "one", {2: {"RescaleIntercept": 0}})
    assert one == "Slice 3 of 6 has another rescale intercept, 0, than most, -1024."
    (two,) = notes(tmp_path / "two", {2: BARE, 4: BARE})
    assert two == "Slices 3, 5 of 6 have no rescale slope and intercept, as the others have."
    assert notes(tmp_path / "near", {2: {"RescaleIntercept": -1020}}) == []
    assert notes(tmp_path / "pet", {i: {"RescaleSlope": i + 1} for i in range(6)}, RescaleIntercept=0, Modality="PT") == []


def test_hounsfield_units_without_an_intercept(tmp_path: Path) -> None:
    (note,) = notes(tmp_path / "hu", {}, **BARE, RescaleType="HU")
    assert note == "Its values are called HU, and it has no rescale intercept: they are taken as they are stored."
    assert notes(tmp_path / "mr", {}, **BARE, Modality="MR") == []


def test_slices_of_one_number(tmp_path: Path) -> None:
    (note,) = notes(tmp_path / "inside", {}, flat=(0, 3))
    assert note == "Slice 4 of 6 holds one number all over: it may have been lost."
    (note,) = notes(tmp_path / "more", {}, flat=(2, 3))
    assert note == "Slices 3, 4 of 6 hold one number all over: they may have been lost."
    assert notes(tmp_path / "ends", {}, flat=(0, 1, 5)) == []  # above and below a brain that was cut out


def test_nifti(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    values = DRAW.integers(0, 255, (7, 6, 5)).astype(np.uint8)
    values[:, :, 2] = 0
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    assert read_scan(tmp_path / "a.nii").facts["notes"] == ["Slice 3 of 5 holds one number all over: it may have been lost."]
