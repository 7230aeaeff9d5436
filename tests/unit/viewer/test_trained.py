"""The page of a run: what came of it, its curves, and its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.pages import read_page
from torchbcos.runs import RunFolder
from torchbcos.viewer import training_page

REPORT: dict[str, Any] = {
    "recipe": "tiny", "epochs": 2, "steps": 40, "parameters": 12345, "export": "ema", "seconds": 75.0, "unreadable": ["<b>.png"],
    "selection": {"top1": 61.5, "ece": 4.0}, "report": {"top1": 59.25, "ece": None},
    "calibration": {"temperature": 1.25, "pictures": 9},
}  # fmt: skip


def run_in(folder: Path) -> RunFolder:
    (folder / "history.csv").write_text("step,epoch,loss,selection_top1,pictures_per_second\n20,1,2.5,50,9\n40,2,,61.5,9\n")
    (folder / "recipe.toml").write_text('about = "<script>"\nepochs = 2\n' + f'names = "{"n" * 5000}"\n')
    return RunFolder(folder)


def test_a_run_says_what_came_of_it(tmp_path: Path) -> None:
    page = training_page(run_in(tmp_path), REPORT)
    read = read_page(page)
    said = " ".join(" ".join(read.words).split())
    assert not read.faults and page.count("<script") == 1 and "<b>.png" not in page
    for one in ("tiny", "12,345", "1 min 15 s", "61.5", "59.25", "kept back for this report", "Temperature 1.25", "epochs = 2"):
        assert one in said, one
    assert "1 files could not be read" in said and sum(tag == "svg" for tag, _ in read.elements) == 3
    assert "n" * 5000 not in page and any("epochs = 2\n" in one for one in read.words)


def test_a_run_without_history_or_anything_held_out(tmp_path: Path) -> None:
    report = {name: REPORT[name] for name in ("recipe", "steps", "seconds")}
    page = training_page(RunFolder(tmp_path), {**report, "calibration": {"temperature": None, "note": "Nothing was held out."}})
    assert not read_page(page).faults and "Nothing was measured before the end." in page and "Nothing was held out." in page
