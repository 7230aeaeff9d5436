"""Whose a scan is, without saying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from tests.scans import NATIVE, SECRETS, dicom, save
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.pictures.origin import Origin, origin_of

PIXELS = np.zeros((4, 5), np.int16)


def origin(folder: Path, encoding: str = "explicit", **elements: Any) -> Origin:
    return origin_of(save(dicom(PIXELS, encoding, **elements), folder / f"{len(list(folder.iterdir()))}.dcm"))


@pytest.mark.parametrize("encoding", sorted(NATIVE))
def test_scans_of_one_are_told_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    first = origin(tmp_path, StudyInstanceUID="1.5")
    found = origin(tmp_path, encoding, StudyInstanceUID="1.5", SeriesInstanceUID="1.2.3.5")
    assert (found.patient, found.study) == (first.patient, first.study) and found.series != first.series
    assert found.patient and found.study and found.series and len({found.patient, found.study, found.series}) == 3
    assert not any(secret.encode() in part for secret in SECRETS for part in (found.patient, found.study))


@pytest.mark.parametrize("text", ["", " ", "ANONYMOUS", "anonymized", "Anon", "0000", "N/A", "xx", "unknown"])
def test_a_number_that_was_taken_away_is_nobodys(text: str, tmp_path: Path) -> None:
    assert origin(tmp_path, PatientID=text).patient is None and origin(tmp_path, PatientID=text).study is None
    assert origin(tmp_path, PatientID=f"{text}17").patient is not None


def test_a_folder_is_what_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "a.txt").write_text("no scan")
    assert origin(tmp_path / "series").series == origin_of(tmp_path / "series").series
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no DICOM file"):
        origin_of(tmp_path / "none")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0")
    with pytest.raises(InputError):
        origin_of(tmp_path / "b.dcm")
    with pytest.raises(MissingFileError):
        origin_of(tmp_path / "c.dcm")
