"""Scans of one patient stay together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from tests.scans import SECRETS, dicom, save
from torchbcos._core.errors import MissingPackageError
from torchbcos.data import open_labelled, patients
from torchbcos.data.labelled import Labelled
from torchbcos.pictures import origin


def scan(file: Path, shade: int, patient: str, study: str = "1", series: str = "1", **elements: Any) -> None:
    said = {"PatientID": patient, "StudyInstanceUID": f"1.2.{study}", "SeriesInstanceUID": f"1.2.{study}.{series}", **elements}
    save(dicom(np.full((4, 5), shade, np.int16), **said), file)


def slices(place: Path, people: int = 4, each: int = 3, names: tuple[str, ...] = ("ill", "well"), **said: Any) -> Path:
    """Each patient has slices in every class, as a tumour has that not all slices show."""
    for p in range(people):
        for k, name in enumerate(names):
            for i in range(each):
                scan(
                    place / name / f"p{p}-{i}.dcm",
                    100 * k + 10 * p + i,
                    **{"patient": f"{SECRETS[2]}{p}", "study": f"7{p}", **said},
                )
    return place


def people(data: Labelled) -> list[set[str]]:
    """The names of the examples in each set of two or more."""
    sets: dict[int, set[str]] = {}
    for name, group in zip(data.train.names, data.train.groups or range(len(data.train)), strict=True):
        sets.setdefault(group, set()).add(name)
    return [names for names in sets.values() if len(names) > 1]


def test_slices_of_one_patient_are_one_group_in_all_classes(tmp_path: Path) -> None:
    data = open_labelled(slices(tmp_path))
    assert [{Path(name).name[:2] for name in names} for names in people(data)] == [{f"p{p}"} for p in range(4)]
    (note,) = data.notes
    assert note == "24 scans are of 4 patients: those of one patient stay on one side where the data is divided."
    assert data.train.take([0, 5]).groups == (0, data.train.groups[5])  # type: ignore[index]
    assert not any(secret in f"{note}{data.train!r}{data.train.groups}" for secret in SECRETS)


def test_studies_and_series_where_no_patient_is_told_from_another(tmp_path: Path) -> None:
    for p in range(3):
        for name, series in (("ill", "1"), ("ill", "2"), ("well", "2")):
            scan(tmp_path / "studies" / name / f"{p}-{series}.dcm", 10 * p + len(name) * 50, "ANON", f"{p}", series)
            scan(tmp_path / "series" / name / f"{p}-{series}.dcm", 10 * p + len(name) * 50, "ANON17", "5", f"{p}")
    studies, series = open_labelled(tmp_path / "studies"), open_labelled(tmp_path / "series")
    assert len(people(studies)) == len(people(series)) == 3
    assert "9 scans are of 3 studies, whose files tell no patients apart: those of one study stay" in studies.notes[-1]
    assert "9 scans are of 3 series, whose files tell no patients apart: those of one series stay" in series.notes[-1]


def test_what_cannot_be_kept_apart_is_said(tmp_path: Path) -> None:
    data = open_labelled(slices(tmp_path, 1))
    assert data.train.groups is None
    assert data.notes == ("All 6 scans are of one series: what is held out of them looks like what is trained on, and the result "
                          "says little about other patients.",)  # fmt: skip


def test_patients_that_are_trained_on_and_reported(tmp_path: Path) -> None:
    slices(tmp_path / "train", 3)
    slices(tmp_path / "val", 1, 2, patient=f"{SECRETS[2]}1", study="999")
    for k, name in enumerate(("ill", "well")):
        scan(tmp_path / "val" / name / "other.dcm", 200 + k, "somebody else", "8")
    crossing, together = open_labelled(tmp_path).notes[-2:]
    assert crossing.startswith("4 scans to report are of patients that are trained on as well: ") and len(crossing) < 500
    assert "'train/ill/p1-0.dcm' (to train on) and 'val/ill/p0-0.dcm' (to report)" in crossing
    assert together.startswith("18 scans are of 3 patients")


def test_copies_of_a_scan_stay_with_it_and_other_files_stand_alone(tmp_path: Path) -> None:
    slices(tmp_path, 2)
    copy = (tmp_path / "ill" / "p0-0.dcm").read_bytes()
    (tmp_path / "well" / "copy.png").write_bytes(copy)  # whatever it is called: bytes are bytes
    (tmp_path / "ill" / "broken.dcm").write_bytes(b"nothing")
    groups = dict(zip(open_labelled(tmp_path).train.names, open_labelled(tmp_path).train.groups or (), strict=True))
    assert groups["well/copy.png"] == groups["ill/p0-0.dcm"] != groups["ill/broken.dcm"]
    assert len(set(groups.values())) == 3


def test_tables_and_volumes(tmp_path: Path) -> None:
    for p in range(3):
        for k in range(2):
            for i in range(2):
                scan(tmp_path / f"{p}-{k}" / f"{i}.dcm", 50 * p + 10 * k + i, f"P{p}", f"{p}", f"{k}", InstanceNumber=i,
                     ImagePositionPatient=[0, 0, i], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])  # fmt: skip
    rows = [f"{p}-{k},{'ab'[k]}" for p in range(3) for k in range(2)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class", *rows]))
    data = open_labelled(tmp_path, volumes=True)
    assert people(data) == [{f"{p}-0", f"{p}-1"} for p in range(3)] and data.notes[-1].startswith("6 scans are of 3 patients")


def test_each_process_finds_the_same_with_numbers_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices(tmp_path)
    first, numbers = open_labelled(tmp_path).train.groups, origin.origin_of(tmp_path / "ill" / "p0-0.dcm")
    monkeypatch.setattr(origin, "_SALT", b"another process")
    assert open_labelled(tmp_path).train.groups == first is not None
    assert origin.origin_of(tmp_path / "ill" / "p0-0.dcm").patient != numbers.patient


def test_without_pydicom_whoever_reads_the_pixels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices(tmp_path)
    asked: list[object] = []

    def absent(path: object) -> None:
        asked.append(path)
        raise MissingPackageError("no pydicom")

    monkeypatch.setattr(patients, "origin_of", absent)
    data = open_labelled(tmp_path)
    assert (data.train.groups, data.notes, len(asked)) == (None, (), 1)


def test_nothing_is_asked_where_there_are_none_or_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices(tmp_path)
    monkeypatch.setattr(patients, "origin_of", lambda path: 1 / 0)
    monkeypatch.setattr(patients, "MOST_HEADERS", 20)
    data = open_labelled(tmp_path)
    assert data.train.groups is None and "24 scans are too many to be asked which are of one patient" in data.notes[-1]
    for file in sorted(tmp_path.rglob("*.dcm")):
        np.save(file.with_suffix(".npy"), np.full((4, 5), len(str(file)) / 999, np.float32))
        file.unlink()
    assert open_labelled(tmp_path).train.groups is None
