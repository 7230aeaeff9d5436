"""Signals and volumes of another size than those that were trained on are answered with a word."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchbcos import Classifier
from torchbcos import nn as bnn
from torchbcos.pictures import Preprocess
from torchbcos.zoo import sizes
from torchbcos.zoo.sizes import other_size, trained_sides


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_said", set())


def classifier(*trained: int, channels: int = 1, notes: Any = None) -> Classifier:
    axes = len(trained)
    conv = {1: bnn.BcosConv1d, 2: bnn.BcosConv2d, 3: bnn.BcosConv3d}[axes]
    made = Classifier(
        nn.Sequential(conv(2 * channels, 2, 1), bnn.GlobalAveragePool()), preprocess=Preprocess(raw_channels=channels, axes=axes)
    )
    noted = {"example": [channels, *trained]} if notes is None else notes
    return Classifier(made.model, dataclasses.replace(made.card, notes=noted))


WAYS: list[Callable[[Classifier, Any], Any]] = [
    lambda clf, x: clf.predict([x]), lambda clf, x: clf.explain([x]), lambda clf, x: list(clf.iter_explain([x, x])),
    lambda clf, x: list(clf.iter_predict(iter([x, x]), batch_size=1)),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("trained", "given", "text"),
    [
        ((256,), (1, 300), "trained on signals of 256 samples; this one has 300. Its answer may mean little."),
        ((24, 8, 8), (1, 12, 8, 8), "trained on volumes of 24 x 8 x 8 voxels; this one has 12 x 8 x 8. Its"),
        ((24, 8, 4), (1, 4, 8, 24), "this one has 4 x 8 x 24. Are its axes in another order?"),
    ],
)
def test_another_size_is_said_once(
    way: Callable[[Classifier, Any], Any], trained: tuple[int, ...], given: tuple[int, ...], text: str
) -> None:
    clf = classifier(*trained)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way(clf, np.full(given, 0.5, np.float32))
        way(clf, np.full((1, *(2 * side for side in trained)), 0.5, np.float32))
    assert [str(w.message).endswith(" (Said once.)") for w in caught] == [True] and text in str(caught[0].message)


def test_nothing_is_said_where_all_is_well_or_nobody_knows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clf, shape in (
            (classifier(256), (1, 256)), (classifier(24, 8, 4), (1, 24, 8, 4)), (classifier(32, 32), (1, 20, 20)),
            (classifier(256, notes={}), (1, 300)), (classifier(256, notes="free"), (1, 300)),
            (classifier(256, channels=2), (2, 256)),
        ):  # fmt: skip
            for way in WAYS:
                way(clf, np.full(shape, 0.5, np.float32))


@pytest.mark.parametrize("noted", [[1], [1, 0], [2, 8], [1, 2.5], [1, 8, 8], "18", None, [1, 2**40], [1, True], {"1": 2}])
def test_what_a_stranger_notes_is_looked_at(noted: Any) -> None:
    clf = classifier(256, notes={"example": noted})
    assert trained_sides(clf.card, clf.transform) is None and clf.other_size((300,)) is None
    assert classifier(256).other_size((300,)) == other_size((256,), torch.Size((300,)), "signal")  # the check above can fail
