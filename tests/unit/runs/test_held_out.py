"""Which examples a run held out: of the same data, of other data, and in a damaged file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchbcos._core.errors import WeightsError
from torchbcos.data import Labelled, Split
from torchbcos.runs import RunFolder, read_held_out, write_held_out


def examples(*names: str) -> Split:
    return Split(names, torch.zeros(len(names), dtype=torch.int64), lambda i: None, tuple(range(len(names))))


DATA, OTHER = (Labelled(("cat", "dog"), examples(*names)) for names in ("abcd", "abce"))


def test_names_come_back_for_the_same_data_only(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_held_out(run, DATA) == {}
    write_held_out(run, DATA, {"selection": DATA.train.take([1, 3]), "report": None})
    assert read_held_out(run, DATA) == {"selection": ["b", "d"], "report": []}
    assert read_held_out(run, OTHER) == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"selection": []}',
        "\udcff",
        "[" * 5000,
        '{"data": "", "selection": "ab", "report": []}',
        '{"data": "", "selection": [], "report": [1]}',
    ],
    ids=repr,
)
def test_a_damaged_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"splits\.json' is damaged"):
        read_held_out(RunFolder(tmp_path), DATA)


def test_a_file_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchbcos.runs.held_out._MOST_BYTES", 1000)
    (tmp_path / "splits.json").write_text(" " * 1001 + "{}")
    with pytest.raises(WeightsError, match=r"splits\.json' is damaged"):
        read_held_out(RunFolder(tmp_path), DATA)
    (tmp_path / "splits.json").unlink()
    (tmp_path / "splits.json").symlink_to("/dev/zero")
    assert read_held_out(RunFolder(tmp_path), DATA) == {}  # no file of a run
