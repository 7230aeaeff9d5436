"""Whatever a classifier takes, however it is given: one answer, and the explanation's outputs are the prediction's."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchbcos import nn as bnn
from torchbcos.pictures import Preprocess, Scan
from torchbcos.zoo import Classifier

CONVOLUTIONS = {1: bnn.BcosConv1d, 2: bnn.BcosConv2d, 3: bnn.BcosConv3d}


@cache
def classifier(channels: int, axes: int, encoding: Any) -> Classifier:
    torch.manual_seed(0)
    p = Preprocess(raw_channels=channels, axes=axes, encoding=encoding, value_range=(0, 200))
    network = nn.Sequential(CONVOLUTIONS[axes](p.channels, 3, 3, padding=1), bnn.GlobalAveragePool())
    return Classifier(network, class_names=("a", "b", "c"), preprocess=p)


KINDS = ("path", "text", "array", "tensor", "scan", "file", "list", "iterator", "folder", "pattern", "batch")


def given_as(kind: str, array: np.ndarray, folder: Path, clf: Classifier) -> object:
    file = folder / "x" / "a.npy"
    file.parent.mkdir(exist_ok=True)
    np.save(file, array)
    made: dict[str, Any] = {
        "path": file, "text": str(file), "array": array, "tensor": torch.from_numpy(array), "list": [array],
        "iterator": iter([file]),
        "file": io.BytesIO(file.read_bytes()), "folder": file.parent, "pattern": f"{folder}/x/*.npy", "batch": array[None],
        "scan": Scan(pixels=torch.from_numpy(array).float().clamp(0, 200) / 200, facts={"window": [0.0, 200.0]}),
    }  # fmt: skip
    return made[kind]


@settings(deadline=None, max_examples=60)
@given(
    channels=st.integers(1, 4), axes=st.integers(1, 3), kind=st.sampled_from(KINDS), seed=st.integers(0, 99),
    encoding=st.sampled_from(["add_inverse", "none"]), dtype=st.sampled_from(["u1", "i2", "f4", "f8"]),
)  # fmt: skip
def test_an_answer_does_not_depend_on_how_an_input_is_given(
    tmp_path_factory: pytest.TempPathFactory, channels: int, axes: int, kind: str, seed: int, encoding: str, dtype: str
) -> None:
    clf = classifier(channels, axes, encoding)
    array = np.random.default_rng(seed).integers(0, 256, (channels, 5, 6, 7)[: axes + 1]).astype(dtype)
    folder = tmp_path_factory.getbasetemp()
    expected = np.clip(array.astype(np.float64), 0, 200) / 200
    x = clf.preprocess(given_as(kind, array, folder, clf))
    assert torch.equal(x, clf.preprocess(array)) and x.shape == (1, clf.transform.channels, *array.shape[1:])
    assert np.abs(clf.transform.decode(x)[0].numpy() - expected).max() < 1e-6
    e = clf.explain(given_as(kind, array, folder, clf), top_k=3)
    predictions = clf.predict(given_as(kind, array, folder, clf), top_k=3)[0]
    assert [p.logit for p in predictions] == [float(e.outputs[0, p.index]) for p in predictions]
    assert e.targets[0].tolist() == [p.index for p in predictions]
    assert e.photos is not None and np.abs(e.photos[0].numpy() - expected).max() < 1e-6
    assert e.seen[0].note == "window 0 to 200"
    assert e.titles == ("" if kind in ("array", "tensor", "scan", "file", "list", "batch") else "a.npy",)


def test_a_folder_is_its_files_one_by_one(tmp_path: Path) -> None:
    clf = classifier(2, 1, "add_inverse")
    files = [tmp_path / f"{i}.npy" for i in range(5)]
    for i, file in enumerate(files):
        np.save(file, np.random.default_rng(i).random((2, 40)).astype(np.float32) * 200)
    whole, alone = clf.explain(tmp_path, batch_size=2), [clf.explain(file) for file in files]
    assert whole.titles == tuple(file.name for file in files)
    for i, e in enumerate(alone):
        assert torch.equal(whole[i].targets, e.targets) and torch.equal(whole[i].inputs, e.inputs)
        assert (whole[i].outputs - e.outputs).abs().max() <= 1e-6 and (whole[i].weights - e.weights).abs().max() <= 1e-6
    assert [p[0].label for p in clf.predict(tmp_path)] == [clf.predict(file)[0][0].label for file in files]
    assert len(clf.explain(tmp_path, [0, 1, 2, 0, 1], batch_size=2)) == 5
