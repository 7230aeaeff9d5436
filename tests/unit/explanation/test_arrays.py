from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.explanation.test_result import explanation
from torchbcos._core.errors import InputError, MissingFileError, StateError


def test_numpy_alone_reads_all_numbers_and_names(tmp_path: Path) -> None:
    e = explanation(class_names=["tench", "漢字", "c", "d", "é"], contrast=torch.ones(3, 2, dtype=torch.long))
    e = e.shown_with(titles=["a.png", "b\n", ""], photos=torch.rand(3, 3, 16, 16))
    assert e.save_arrays(tmp_path / "why.npz") == tmp_path / "why.npz" and os.listdir(tmp_path) == ["why.npz"]
    with np.load(tmp_path / "why.npz", allow_pickle=False) as found:
        for name in (
            "inputs",
            "weights",
            "contributions",
            "outputs",
            "targets",
            "values",
            "residual",
            "share",
            "contrast",
            "photos",
        ):
            np.testing.assert_array_equal(found[name], getattr(e, name).numpy())
        np.testing.assert_array_equal(found["constants"], np.ones((1, 3, 2)))
        assert found["constant_names"].tolist() == ["a.bias"] and found["fixed"].tolist() == []
        assert found["labels"].tolist() == [["tench"] * 2] * 3 and found["titles"].tolist() == ["a.png", "b\n", ""]
        assert found["class_names"][1] == "漢字"
        whole = found["contributions"].sum((2, 3)) + found["constants"].sum(0) + found["residual"]
        np.testing.assert_allclose(whole, found["values"], atol=1e-4)
    code = "import sys, numpy; n = numpy.load(sys.argv[1])['weights'].shape; assert 'torch' not in sys.modules; print(n)"
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "why.npz"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "(3, 2, 6, 16, 16)"


def test_numbers_that_numpy_lacks_and_explanations_without_constants(tmp_path: Path) -> None:
    e = explanation(1, constants={})
    e = dataclasses.replace(e, weights=e.weights.bfloat16().requires_grad_(), inputs=e.inputs.bfloat16())
    with np.load(e.save_arrays(tmp_path / "a.npz")) as found:
        assert found["weights"].dtype == np.float32 and found["constants"].shape == (0, 1, 2) and "titles" not in found


def test_errors_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = explanation(1)
    with pytest.raises(InputError, match="does not end so"):
        e.save_arrays(tmp_path / "a.npy")
    with pytest.raises(MissingFileError, match="does not exist"):
        e.save_arrays(tmp_path / "nowhere" / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"old")

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StateError, match=r"No space left on device\. Nothing was left behind"):
        e.save_arrays(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == b"old" and os.listdir(tmp_path) == ["a.npz"]
