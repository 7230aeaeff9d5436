"""Units of work: which there are, and what a full disk or too little memory does to them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from tests.coloured import classifier, folder
from torchbcos._core.errors import StateError
from torchbcos.evaluation import compare
from torchbcos.evaluation import store as store_module
from torchbcos.evaluation.measured import Measured


def test_a_full_disk_is_no_property_of_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else "cannot be written" would be kept as a method's number, and stay when there is room again."""
    data = folder(tmp_path / "data", 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "save_file", full)
        with pytest.raises(StateError, match="No space left"):
            compare([classifier()], ["inherent"], ["gini"], data, out=tmp_path / "out")
    assert not compare([classifier()], ["inherent"], ["gini"], data, out=tmp_path / "out").rows[0]["undefined"]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_is_none_either(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", 1)

    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Measured, "attribute", fails)
        with pytest.raises(StateError, match=r"inherent ran out of memory.*What was computed is kept"):
            compare([classifier()], ["random", "inherent"], ["gini"], data, out=tmp_path / "out")
    found = compare([classifier()], ["random", "inherent"], ["gini"], data, out=tmp_path / "out")
    assert not any(row["undefined"] for row in found.rows)


def test_damaged_maps_are_computed_again(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 1)
    usual = compare([classifier()], ["inherent"], ["gini"], data, out=tmp_path / "out")
    for file in (tmp_path / "out").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    later = compare([classifier()], ["inherent"], ["gini", "entropy"], data, out=tmp_path / "out")
    fresh = compare([classifier()], ["inherent"], ["gini", "entropy"], data)
    for metric in ("gini", "entropy"):
        assert torch.equal(later.values["Bcos", "inherent", metric], fresh.values["Bcos", "inherent", metric])
    assert torch.equal(usual.values["Bcos", "inherent", "gini"], fresh.values["Bcos", "inherent", "gini"])
