"""Labels of several questions: what a cell may say, what is unknown, and what is said of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.make import picture
from torchbcos._core.errors import InputError
from torchbcos.data import Labelled, open_labelled
from torchbcos.data.labels import UNCERTAIN, never_known

KNOWN = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "true": 1.0, "FALSE": 0.0, "0.7": 0.7, ".25": 0.25, "3e-1": 0.3, "1.": 1.0}
UNSURE = ("-1", "-1.0")
MEANT = {"ignore": math.nan, "positive": 1.0, "negative": 0.0}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    for i in range(8):
        picture(20 * i).save(folder / f"{i}.png")
    return folder


def opened(folder: Path, cells: list[list[str]], **options: str) -> Labelled:
    header = "file," + ",".join("abc"[: len(cells[0])])
    lines = [header, *(f"{i}.png,{','.join(row)}" for i, row in enumerate(cells))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return open_labelled(folder / "t.csv", **options)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), uncertain=st.sampled_from(sorted(MEANT)))
def test_every_cell_is_what_it_says(pictures: Path, data: st.DataObject, uncertain: str) -> None:
    cell = st.sampled_from([*KNOWN, *UNSURE, "", " "])
    cells = [[data.draw(cell) for _ in range(2)] for _ in range(data.draw(st.integers(1, 8)))]
    found = opened(pictures, cells, uncertain=uncertain)
    wanted = [[KNOWN.get(c, MEANT[uncertain] if c in UNSURE else math.nan) for c in row] for row in cells]
    torch.testing.assert_close(found.train.targets, torch.tensor(wanted), equal_nan=True, rtol=0, atol=0)
    unknown = sum(value != value for row in wanted for value in row)
    assert any(f"{unknown} of {2 * len(cells)} labels" in note for note in found.notes) == bool(unknown)
    for k, name in enumerate("ab"):
        assert (name in never_known(found.classes, found.train.targets)) == all(row[k] != row[k] for row in wanted)


def test_uncertain_labels_are_refused_until_somebody_says_what_they_mean(pictures: Path) -> None:
    with pytest.raises(
        InputError, match=r"line 3, column 'b': -1 is no label.*uncertain='ignore' leaves it out.*--uncertain ignore"
    ):
        opened(pictures, [["1", "0"], ["0", "-1"]])
    with pytest.raises(InputError, match=r"uncertain must be one of 'error', 'ignore', .*Did you mean 'ignore'"):
        opened(pictures, [["1", "0"]], uncertain="ignroe")
    assert set(UNCERTAIN) == {"error", *MEANT}


@pytest.mark.parametrize("cell", ["2", "-0.5", "1.01", "nan", "inf", "yes", "1e9", "0x1", "1_0", "-1.5", "0,5", "9" * 5000])
def test_what_is_no_label(cell: str, pictures: Path) -> None:
    with pytest.raises(InputError, match=r"line 2.*(neither 0 nor 1, nor a number between|cells, and there are)") as caught:
        opened(pictures, [[cell], ["1"]])
    assert len(str(caught.value)) <= 500


def test_a_row_that_is_there_twice_with_an_unknown_label_is_one(pictures: Path) -> None:
    """NaN is no NaN's equal: the two labels seemed to differ."""
    (pictures / "t.csv").write_text("file,a,b\n0.png,1,\n0.png,1,\n1.png,0,1\n")
    found = open_labelled(pictures / "t.csv")
    assert len(found) == 2 and found.repeated == 1
    (pictures / "t.csv").write_text("file,a,b\n0.png,1,\n0.png,1,0\n1.png,0,1\n")
    with pytest.raises(InputError, match=r"lines 2 and 3: .*the two labels differ"):
        open_labelled(pictures / "t.csv")


@pytest.mark.parametrize(("second", "contradict"), [("1,", False), ("1,0", False), (",", False), ("0,", True), ("0.7,", True)])
def test_byte_identical_copies_contradict_only_in_what_is_known(second: str, contradict: bool, tmp_path: Path) -> None:
    for name in "ab":
        picture(9).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text(f"file,x,y\na.png,1,\nb.png,{second}\n")
    assert any("different labels" in note for note in open_labelled(tmp_path).notes) == contradict
