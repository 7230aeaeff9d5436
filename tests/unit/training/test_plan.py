"""What is held out: byte-identical copies stay on one side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.data.test_patients import slices
from tests.unit.training.data import squares, tiny
from torchbcos.data.labelled import Split
from torchbcos.data.sources import open_labelled
from torchbcos.training.plan import Splits, hold_out


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each picture twice, under two names."""
    place = squares(tmp_path_factory.mktemp("doubled") / "data", 6)
    for file in sorted(place.rglob("*.png")):
        shutil.copy(file, file.with_name(f"{file.stem} (copy).png"))
    return place


def shared(splits: Splits) -> int:
    """How many pictures are on more than one side."""
    sides = [{split.reader.raw(row) for row in split.rows} for split in _given(splits)]  # type: ignore[attr-defined]
    return sum(len(a & b) for k, a in enumerate(sides) for b in sides[:k])


def _given(splits: Splits) -> list[Split]:
    return [split for split in (splits.train, splits.selection, splits.report) if split is not None]


@pytest.mark.parametrize("seed", range(3))
def test_no_copy_of_a_picture_is_on_another_side(doubled: Path, seed: int) -> None:
    data, recipe = open_labelled(doubled), tiny(seed=seed, selection_share=0.2, report_share=0.2)
    kept = hold_out(data, recipe)
    assert kept.together and shared(kept) == 0 and sorted(map(len, _given(kept))) == [6, 6, 24]
    before = hold_out(data, recipe, together=False)
    assert not before.together and shared(before) > 0


def test_nothing_changes_without_copies(tmp_path: Path) -> None:
    data = open_labelled(squares(tmp_path / "data", 6))
    kept, before = hold_out(data, tiny()), hold_out(data, tiny(), together=False)
    assert not kept.together and [s.rows for s in _given(kept)] == [s.rows for s in _given(before)]


@pytest.mark.parametrize("seed", range(3))
def test_no_patient_is_on_two_sides(seed: int, tmp_path: Path) -> None:
    """Slices of one series were trained on, chosen by and reported."""
    pytest.importorskip("pydicom")
    data = open_labelled(slices(tmp_path, 10))
    splits = hold_out(data, tiny(seed=seed, selection_share=0.2, report_share=0.2))
    sides = [{Path(name).name[:2] for name in split.names} for split in _given(splits)]
    assert sorted(map(len, sides)) == [2, 2, 6] and len(set.union(*sides)) == 10 and splits.notes == ()


def test_too_few_patients_to_hold_some_out(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    for p, name in enumerate(("ill", "well")):
        slices(tmp_path / "alone", 1, 4, (name,), patient=f"P{p}", study=f"{p}")
    splits = hold_out(open_labelled(tmp_path / "alone"), tiny(selection_share=0.0, report_share=0.25))
    assert splits.report is not None and len(splits.report) == 2
    assert "Scans of one patient are both trained on and held out to report: there are too few patients" in splits.notes[0]
    for p in range(3):
        slices(tmp_path / "alone", p + 1, 4, ("well",))
    splits = hold_out(open_labelled(tmp_path / "alone"), tiny(selection_share=0.0, report_share=0.25))
    assert splits.notes == ("Nothing of 'ill' is held out to report: all of it is of one patient.",)
