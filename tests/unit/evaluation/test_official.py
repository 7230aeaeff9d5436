"""The check of official weights: what chance may do, what can be compared, and what it needs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.data import Split
from torchbcos.evaluation.official import Accuracy, measure_official, names_of
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier
from torchbcos.zoo.card import Card, imagenet_classes, imagenet_wnids, official_card

CARD = Card(
    name="three", architecture="resnet18", classes=("a", "b", "c"), num_classes=3, preprocess=Preprocess(crop=4).to_dict()
)  # fmt: skip


def test_what_chance_explains() -> None:
    few, many = (Accuracy(images=n, classes=2, top1=50.0, top5=100.0) for n in (100, 50_000))
    assert few.tolerance(75.0) == pytest.approx(12.99, abs=0.01) and many.tolerance(75.0) == pytest.approx(0.58, abs=0.01)
    assert few.tolerance(100.0) == 0.1


@pytest.mark.parametrize(
    ("card", "classes", "top1", "agrees"),
    [
        (replace(CARD, top1=75.0), 3, 75.5, True),
        (replace(CARD, top1=75.0), 3, 75.6, False),
        (replace(CARD, top1=75.0), 3, 74.4, False),
        (replace(CARD, top1=75.0), 2, 10.0, None),
        (CARD, 3, 75.0, None),
    ],
)
def test_agreement(card: Card, classes: int, top1: float, agrees: bool | None) -> None:
    assert Accuracy(images=60_000, classes=classes, top1=top1, top5=100.0).agrees(card) is agrees


class Mean(nn.Module):
    """The class with the highest mean over its channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3].mean((2, 3))


def pictures(*channels: int | None) -> Split:
    def read(i: int) -> Tensor:
        channel = channels[i]
        if channel is None:
            raise InputError("no picture")
        return torch.eye(3)[channel][:, None, None].expand(3, 4, 4)

    return Split([str(i) for i in range(len(channels))], torch.tensor([0] * len(channels)), read, tuple(range(len(channels))))


def test_measuring_needs_no_further_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core checks official weights; scores that torchmetrics computes are not asked for."""
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    network = Mean()
    network.register_parameter("p", nn.Parameter(torch.ones(1)))
    found = measure_official(Classifier(network, CARD), pictures(0, 1, None, 0), batch_size=2, workers=0)
    assert found == Accuracy(images=3, classes=1, top1=pytest.approx(200 / 3), top5=100.0, failed=("2: no picture",))


def test_names_of_classes() -> None:
    assert names_of(CARD) == {"a": 0, "b": 1, "c": 2, "0": 0, "1": 1, "2": 2}
    known = names_of(official_card("resnet18"))
    assert known["n01440764"] == known["tench"] == known["0"] == 0
    assert known["crane"] == list(imagenet_classes()).index("crane")  # the first of two of that name


def test_wnids_are_imagenets(data_dir: Path) -> None:
    assert len(set(imagenet_wnids())) == 1000 and list(imagenet_wnids()) == sorted(imagenet_wnids())
    table = data_dir / "imagenet-samples" / "labels.csv"
    if not table.is_file():
        pytest.skip("no table of ImageNet classes here")
    rows = [line.split(",") for line in table.read_text("utf-8").splitlines()[1:]]
    assert len(rows) == 500 and all(imagenet_wnids()[int(index)] == wnid for _, wnid, index, _ in rows)
    assert sum(imagenet_classes()[int(index)] == name for _, _, index, name in rows) >= 499
