"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torchbcos._core.files import replacing


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target, old = tmp_path / "a", tmp_path / "old"
    target.write_text("first")
    with replacing(target, keep=old) as partial:
        partial.write_text("second")
        assert target.read_text() == "first"
    assert (target.read_text(), old.read_text()) == ("second", "first")
    with pytest.raises(IsADirectoryError), replacing(target, keep=old):
        tmp_path.write_text("what fails in the block")
    assert (target.read_text(), old.read_text()) == ("second", "first")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "old"]


def test_durable_files_are_on_the_disk_before_they_take_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append((tmp_path / "a").exists()))
    for durable in (False, True):
        with replacing(tmp_path / "a", durable=durable) as partial:
            partial.write_text("x")
        (tmp_path / "a").unlink()
    assert seen == [False]
