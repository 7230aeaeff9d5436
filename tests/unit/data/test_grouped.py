"""The column `group` of a table: what belongs together stays on one side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.scans import dicom, save
from tests.unit.data.make import picture
from tests.unit.training.data import tiny
from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Labelled
from torchbcos.data.sources import open_labelled
from torchbcos.training.plan import hold_out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("grouped")
    for i in range(40):
        picture(6 * i).save(place / f"{i}.png")
    return place


def opened(place: Path, lines: list[str], name: str = "t.csv") -> Labelled:
    (place / name).write_text("\n".join(lines) + "\n")
    return open_labelled(place / name)


def recordings(columns: str = "file,class,group") -> list[str]:
    """Ten people with four recordings each, of both classes."""
    labels = "ab" if "class" in columns else "01"
    return [columns, *(f"{i}.png,{labels[i % 2]},p{i // 4:02}" for i in range(40))]


@pytest.mark.parametrize("columns", ["file,class,group", "file,ill,group"])
@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_on_two_sides(columns: str, seed: int, pictures: Path) -> None:
    data = opened(pictures, recordings(columns))
    assert data.classes == (("a", "b") if "class" in columns else ("ill",))
    splits = hold_out(data, tiny(seed=seed, selection_share=0.2, report_share=0.2))
    given = [split for split in (splits.train, splits.selection, splits.report) if split is not None]
    sides = [{int(name.removesuffix(".png")) // 4 for name in split.names} for split in given]
    assert sorted(map(len, sides)) == [1, 2, 7] and len(set.union(*sides)) == 10 and splits.notes == ()
    assert data.notes[-1] == "40 examples to train on are of 10 groups: those of one group stay on one side."


def test_blank_is_a_group_of_its_own_and_copies_join(pictures: Path, tmp_path: Path) -> None:
    for i in range(8):
        picture(30 * (i % 7)).save(tmp_path / f"{i}.png")  # 7 is a copy of 0
    data = opened(tmp_path, ["file,class,group", *(f"{i}.png,{'ab'[i % 2]},{'p' if i in (0, 1) else ''}" for i in range(8))])
    assert data.train.groups == (0, 0, 2, 3, 4, 5, 6, 0) and data.train.take([1, 2]).groups == (0, 2)
    for cells in ("", "q{0}"):  # each alone: as without the column
        data = opened(pictures, ["file,class,group", *(f"{i}.png,{'ab'[i % 2]},{cells.format(i)}" for i in range(6))])
        assert data.train.groups is None and not any("one group" in note for note in data.notes)


def test_scans_of_one_patient_and_a_group_over_patients(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    rows = ["file,class,group"]
    for i in range(8):
        said = {"PatientID": f"P{i // 2}", "StudyInstanceUID": f"1.2.{i}", "SeriesInstanceUID": f"1.2.{i}.1"}
        save(dicom(np.full((4, 5), 10 * i, np.int16), **said), tmp_path / f"{i}.dcm")
        rows.append(f"{i}.dcm,{'ab'[i % 2]},{'family' if i in (0, 2) else ''}")
    assert opened(tmp_path, rows).train.groups == (0, 0, 0, 0, 4, 4, 6, 6)


def test_a_given_split_is_respected_and_too_few_groups_are_said(pictures: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},p{i // 4},{'train' if i < 32 else 'val'}" for i in range(40)]
    data = opened(pictures, ["file,class,group,split", *rows])
    assert data.report is not None and len(data.report) == 8 and len(set(data.train.groups or ())) == 8
    alone = opened(pictures, ["file,class,group", *(f"{i}.png,{'ab'[i % 2]},p" for i in range(8))])
    assert alone.notes[-1].startswith("All 8 examples to train on are of one group: ") and alone.train.groups is None
    few = opened(pictures, ["file,class,group", *(f"{i}.png,{'ab'[i % 2]},p{i % 2}" for i in range(8))])
    splits = hold_out(few, tiny(selection_share=0.0, report_share=0.25))
    assert "Examples of one group are both trained on and held out to report: there are too few groups" in splits.notes[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,class,group,split", "0.png,a,p7,train", "1.png,b,,train", "2.png,b,p7,val"],
         r"t\.csv', lines 2 and 4: the group 'p7' is trained on and reported"),
        (["file,class,group,split", "0.png,a,p7,test", "1.png,b,p8,train", "2.png,b,p7,train"],
         r"lines 2 and 4: the group 'p7' is trained on and reported"),
        (["file,ill,group", "0.png,1,0", "1.png,0,1"], "line 1: the column 'group' holds 0 and 1 only"),
        (["file,class,group", "0.png,a,p1", "1.png,b,p2", "0.png,a,p3"], r"lines 2 and 4: '0\.png' is named twice, and the two"),
        (["file,class,group", "0.png,a,p1", "1.png,b,p2", "0.png,a,"], r"lines 2 and 4: '0\.png' is named twice, and the two"),
        (["file,class,group", '0.png,a,"p1', '1.png,b,p2"', "2.png,b,p3"], "line 2: the cell of 'group' goes over 2 lines"),
        (["file,class,patient", "0.png,a,p1"], "a column 'class' and 'patient' beside it: .* is called 'group'"),
        (["file,group", "0.png,p1"], "needs a column 'file' and one column a label, or 'class'; it has"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_names_its_lines(lines: list[str], message: str, pictures: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(pictures, lines)
    assert len(str(caught.value)) <= 500


def test_a_class_table_may_have_groups_of_numbers(pictures: Path) -> None:
    data = opened(pictures, ["file,class,group", *(f"{i}.png,{'ab'[i % 2]},{i // 4 % 2}" for i in range(16))])
    assert len(set(data.train.groups or ())) == 2
