"""`history.csv` of a run that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos.runs import History


def test_later_rows_are_dropped_and_new_columns_join(tmp_path: Path) -> None:
    history = History(tmp_path / "history.csv", 0)
    for step in (1, 2, 3):
        history.add({"step": step, "loss": step / 3})
    again = History(tmp_path / "history.csv", 2)
    again.add({"step": 3, "top1": 50.0})
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines == ["step,loss,top1", "1,0.333333,", "2,0.666667,", "3,,50"]


@pytest.mark.parametrize("line", ["0.5", "0.5,", "0.5,2,3", "x,y"])
def test_a_damaged_row_is_dropped(line: str, tmp_path: Path) -> None:
    """A short row had no step, which was not asked for before it was used; a long one had no name for its last cell."""
    file = tmp_path / "history.csv"
    file.write_text(f"loss,step\n0.5,1\n{line}\n")
    History(file, 5).add({"loss": 0.25, "step": 3})
    assert file.read_text() == "loss,step\n0.5,1\n0.25,3\n"


@pytest.mark.parametrize("text", [b"step\n\xff\n", b'step,loss\n1,"0.5\n', b"step\n\x00\n"])
def test_a_damaged_file_is_moved_aside(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    file.write_bytes(text)
    history = History(file, 5)
    assert history.rows == [] and history.complaint.endswith("It is kept as 'history-damaged.csv', and a new one begins.")
    assert "history.csv' is damaged" in history.complaint and "save it" not in history.complaint  # it is put aside just now
    history.add({"step": 6})
    assert file.read_text() == "step\n6\n" and (tmp_path / "history-damaged.csv").read_bytes() == text


@pytest.mark.parametrize("step", ["²", "9" * 5000, "-1", "1.0", ""])
def test_a_step_that_is_no_number(step: str, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(f"step,loss\n{step},0.5\n2,0.25\n")
    assert [row["loss"] for row in History(tmp_path / "history.csv", 5).rows] == ["0.25"]


def test_a_number_that_is_none_is_an_empty_cell(tmp_path: Path) -> None:
    history = History(tmp_path / "history.csv", 0)
    history.add({"step": 1, "map": float("nan"), "loss": float("inf"), "f1": 0.5})
    assert (tmp_path / "history.csv").read_text().splitlines() == ["step,map,loss,f1", "1,,,0.5"]
    assert History(tmp_path / "history.csv", 1).rows[0]["map"] == ""
