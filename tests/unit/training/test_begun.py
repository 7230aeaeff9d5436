"""Runs that go on: with the very pictures held out that were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.unit.training.data import squares, tiny
from torchbcos._core.errors import StateError
from torchbcos.training import read_recipe, train


def test_a_run_goes_on_with_the_division_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, lines = squares(tmp_path / "data", 6), list[str]()
    for file in sorted(data.rglob("*.png")):
        shutil.copy(file, file.with_name(f"{file.stem} (copy).png"))

    def run(out: str, **values: object) -> dict[str, list[str]]:
        train(tiny(epochs=1, **values), data, tmp_path / out, accelerator="cpu", devices=1, say=lines.append)
        found: dict[str, list[str]] = json.loads((tmp_path / out / "splits.json").read_text())
        return found

    began = run("new", max_steps=1)
    assert any("18 pictures are byte-identical copies of another: 'blue/00" in line for line in lines)
    assert read_recipe(tmp_path / "new" / "recipe.toml")[1]["copies"] == "together"
    with monkeypatch.context() as patch:  # a disk that does not answer, say
        patch.setattr("torchbcos.data.copies.MOST_READ", 0)
        with pytest.raises(StateError, match="was begun with other pictures held out as 'selection' than now"):
            run("new")
        before = run("old", max_steps=1)  # as runs began that knew of no copies
    assert run("new") == began and run("old") == before and before != began
