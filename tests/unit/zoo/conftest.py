"""A tiny classifier with random weights and calibrated norms."""

from __future__ import annotations

import pytest
import torch

import torchbcos
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(network, [torch.rand(8, 6, 32, 32)])
    card = Card(name="tiny", architecture="cifar10_resnet20", classes=("a", "b", "c"), num_classes=3,
                preprocess=Preprocess(resize=32, crop=32).to_dict())  # fmt: skip
    return Classifier(network.eval(), card)
