"""The official cards: whole, consistent, and true where a machine can recompute them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import torchbcos
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card, imagenet_classes, official_cards

CARDS = official_cards()
RELEASE = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights/"
NEEDED = [
    "file", "url", "sha256", "licence", "terms", "top1", "top5", "measured", "parameters", "preprocess", "recipe", "notes",
]  # fmt: skip


def build(card: Card) -> torch.nn.Module:
    """The card's network, without memory for its weights."""
    with torch.device("meta"):
        model: torch.nn.Module = torchbcos.create_model(
            card.architecture, plain=card.plain, num_classes=card.num_classes, **card.options
        )
    return model


def epsilons(model: torch.nn.Module) -> dict[str, float]:
    """The epsilons that a network's layers use."""
    found: dict[str, set[float]] = {"conv": set(), "linear": set(), "norm": set()}
    for module in model.modules():
        kind = type(module).__name__
        if kind.startswith("BcosConv"):
            found["conv"].add(module.eps)  # type: ignore[arg-type]
        elif kind == "BcosLinear":
            found["linear"].add(module.norm_eps)  # type: ignore[arg-type]
        elif kind.endswith("Norm"):
            found["norm"].add(module.eps)  # type: ignore[arg-type]
    return {kind: value for kind, values in found.items() for value in values}


def faults(card: Card) -> list[str]:
    """What is missing in a card or contradicts itself."""
    missing = [f"{name} is missing" for name in NEEDED if getattr(card, name) in (None, "", {})]
    if missing:
        return missing
    preprocess, plain = Preprocess.from_dict(dict(card.preprocess or {})), card.name.startswith("standard_")
    right = {
        "schema": card.schema == 1,
        "file": str(card.file).endswith(f"-{card.sha256}.pth"),
        "sha256": len(str(card.sha256)) >= 10 and not set(str(card.sha256)) - set("0123456789abcdef"),
        "url": card.url == RELEASE + str(card.file),
        "architecture": card.architecture == card.name.removesuffix("_long") and card.architecture in torchbcos.list_models(),
        "classes": card.classes == "imagenet" and card.num_classes == len(card.class_names()) == 1000,
        "terms": "non-commercial" in str(card.terms),
        "accuracy": 50 < float(card.top1 or 0) < float(card.top5 or 0) < 100,
        "plain": card.plain == plain,
        "channels": card.in_channels == preprocess.channels == (3 if plain else 6),
        "crop": preprocess.crop == 224 and preprocess.interpolation == "bilinear",
        "resize": preprocess.resize == (232 if card.recipe["epochs"] == 600 else 256),
        "probability": card.probability == ("softmax" if plain else "sigmoid"),
        "loss": ("cross-entropy" in card.recipe["loss"]) == (card.probability == "softmax"),
        "logit bias": plain == (not card.options)
        and math.isclose(card.options.get("logit_bias", -math.log(999)), -math.log(999), rel_tol=1e-12),
    }
    return [name for name, good in right.items() if not good]


@pytest.mark.parametrize("name", CARDS)
def test_card_is_whole(name: str) -> None:
    assert CARDS[name].name == name
    assert faults(CARDS[name]) == []


@pytest.mark.parametrize("name", CARDS)
def test_card_is_true(name: str) -> None:
    card, model = CARDS[name], build(CARDS[name])
    assert sum(p.numel() for p in model.parameters()) == card.parameters
    assert epsilons(model) == card.notes["epsilons"]


def test_all_34_are_there() -> None:
    assert len(CARDS) == 34 and sum(card.plain for card in CARDS.values()) == 8
    assert set(torchbcos.list_models(pretrained=True)) == set(CARDS)
    assert torchbcos.list_models("resnet*", pretrained=True) == [
        "resnet18", "resnet34", "resnet50", "resnet50_long", "resnet101", "resnet152", "resnet152_long",
    ]  # fmt: skip
    for field in ("file", "sha256"):
        assert len({getattr(card, field) for card in CARDS.values()}) == 34


def test_class_names() -> None:
    names = imagenet_classes()
    assert len(names) == 1000 and all(name == name.strip() != "" for name in names)
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sha256": "0123456789"}, "file"),
        ({"url": RELEASE.replace("https", "http") + "x.pth"}, "url"),
        ({"architecture": "resnet51"}, "architecture"),
        ({"top1": 93.0}, "accuracy"),
        ({"in_channels": 3}, "channels"),
        ({"probability": "softmax"}, "probability"),
        ({"options": {"logit_bias": -6.9}}, "logit bias"),
        ({"terms": None}, "terms is missing"),
    ],
)
def test_a_wrong_card_is_seen(change: dict[str, Any], fault: str) -> None:
    assert fault in faults(dataclasses.replace(CARDS["resnet50"], **change))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(schema=2), r"schema 2 is not 1"),
        (lambda d: d.update(top_1=1.0), r"unknown field 'top_1'\. Did you mean 'top1'"),
        (lambda d: d.pop("architecture"), r"'architecture' is missing"),
    ],
)
def test_cards_are_read_strictly(change: Callable[[dict[str, Any]], Any], text: str) -> None:
    values = CARDS["resnet18"].to_dict()
    change(values)
    with pytest.raises(torchbcos.BcosError, match=text):
        Card.from_dict(values)
