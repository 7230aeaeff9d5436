"""Predictions on the way: theirs come back, anything else counts as none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchbcos._core.errors import StateError
from torchbcos.judging import Outputs, SavedOutputs, fingerprint

OUTPUTS = Outputs(torch.rand(2, 3), torch.tensor([1, 2]), (0, 2), (1,), ("1 is broken",))


def test_what_was_written_comes_back_for_the_same_key_only(tmp_path: Path) -> None:
    saved = SavedOutputs(tmp_path / "new" / "a.json", {"model": 1})
    assert saved.read() is None
    saved.write(OUTPUTS)
    found = SavedOutputs(tmp_path / "new" / "a.json", {"model": 1}).read()
    assert found is not None and torch.equal(found.logits, OUTPUTS.logits) and torch.equal(found.targets, OUTPUTS.targets)
    assert (found.rows, found.unreadable, found.failures) == (OUTPUTS.rows, OUTPUTS.unreadable, OUTPUTS.failures)
    assert SavedOutputs(tmp_path / "new" / "a.json", {"model": 2}).read() is None
    saved.remove()
    saved.remove()
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    "content",
    [
        3, ["a", "list"], {}, {"key": "K"}, {"outputs": {}}, {"key": "K", "logits": torch.rand(2, 3), "failed": [1]},
        {"key": "K", "outputs": {}}, {"key": "K", "outputs": {"logits": torch.rand(2, 3)}},
        *({"key": "K", "outputs": {**vars(OUTPUTS), **changed}} for changed in (
            {"rows": (0,)}, {"rows": (0, 0)}, {"rows": ("a", "b")}, {"rows": 2}, {"logits": [1, 2]}, {"logits": torch.rand(2)},
            {"logits": torch.rand(2, 3).double()}, {"targets": torch.rand(3)}, {"failures": ()}, {"failures": (1,)}, {"more": 1},
        )),
    ],
    ids=lambda _: "foreign",  # no random numbers in names: every process must collect the same
)  # fmt: skip
def test_foreign_content_is_as_good_as_none(content: Any, tmp_path: Path) -> None:
    saved = SavedOutputs(tmp_path / "a.json", "key")
    if isinstance(content, dict) and content.get("key") == "K":
        content = {**content, "key": saved.key}
    torch.save(content, saved.file)
    assert saved.read() is None


def test_half_a_file_is_as_good_as_none(tmp_path: Path) -> None:
    saved = SavedOutputs(tmp_path / "a.json", "key")
    saved.write(OUTPUTS)
    assert saved.read() is not None
    saved.file.write_bytes(saved.file.read_bytes()[:200])
    assert saved.read() is None
    saved.file.unlink()
    saved.file.mkdir()
    assert saved.read() is None


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StateError, match=r"Could not write .*\.a\.json\.partial.*No space left"):
        SavedOutputs(tmp_path / "a.json", "key").write(OUTPUTS)
    assert not list(tmp_path.iterdir())


def test_fingerprints_are_of_weights_and_names() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    assert fingerprint(a) == fingerprint(a) != fingerprint(b)
    b.load_state_dict(a.state_dict())
    assert fingerprint(a) == fingerprint(b) != fingerprint(nn.Sequential(b))
    assert fingerprint(nn.BatchNorm1d(2)) and fingerprint(a.bfloat16()) != fingerprint(b)  # any dtype, and scalars


def test_a_pipe_in_its_place_is_none(tmp_path: Path) -> None:
    saved = SavedOutputs(tmp_path / "a.json", 1)
    os.mkfifo(saved.file)
    assert saved.read() is None
    saved.file.unlink()
    saved.file.symlink_to("/dev/zero")
    assert saved.read() is None
