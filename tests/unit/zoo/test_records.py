"""The records of pictures are made in one place, and any program can use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation import Explanation
from torchbcos.pictures import Preprocess, Scan
from torchbcos.zoo import Card, Classifier
from torchbcos.zoo.build import from_card
from torchbcos.zoo.records import Record, attempt, explained, failed_record, predicted

KEYS = {"index", "label", "value", "contribution", "constants", "aside", "residual", "complete", "share", "picture"}


def photos(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(count)]


def test_records_hold_what_the_classifier_says(classifier: Classifier) -> None:
    pictures, files = photos(2), ["x.png", "y.png"]
    records = predicted(classifier, files, pictures, top_k=2)
    assert [set(record) for record in records] == [{"file", "error", "predictions", "explanations", "crop", "undecided"}] * 2
    for record, row in zip(records, classifier.predict(pictures, top_k=2), strict=True):
        assert record["predictions"] == [
            {"index": p.index, "label": p.label, "probability": p.probability, "logit": p.logit} for p in row
        ]
        assert record["error"] is None and record["explanations"] == []
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    full = explained(classifier, files, pictures, [0, 2], contrast=1)
    assert [e["label"] for e in full[1]["explanations"]] == ["a", "c"]
    first = full[0]["explanations"][0]
    assert first["picture"] is None and first["contrast"] == {"index": 1, "label": "b"}
    assert set(first) == KEYS | {"contrast"}
    logits = {p["index"]: p["logit"] for p in predicted(classifier, ["x.png"], pictures[:1])[0]["predictions"]}
    assert abs(first["value"] - (logits[0] - logits[1])) < 1e-4
    assert json.loads(json.dumps(full, allow_nan=False)) == full


def test_whoever_draws_says_where_the_panel_is(classifier: Classifier, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    def draw(i: int, e: Explanation, k: int, record: Record) -> str:
        seen.append((i, k, record["label"]))
        assert len(e) == 1 and int(e.targets[0, k]) == record["index"]
        if i == 1:
            raise StateError("the disk is full")
        return str(e.save(tmp_path / f"{i}-{k}.png", 0, k))

    records = explained(classifier, ["x", "y", "z"], photos(3), top_k=2, draw=draw)
    assert [record["error"] for record in records] == [None, "the disk is full", None]
    assert records[1] == failed_record("y", "the disk is full")
    assert [place[:2] for place in seen] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert all(Path(e["picture"]).is_file() for i in (0, 2) for e in records[i]["explanations"])


def test_one_picture_takes_no_other_with_it() -> None:
    sizes: list[int] = []

    def work(items: list[Any]) -> list[Record]:
        sizes.append(len(items))
        if None in items:
            raise InputError("no picture")
        return [failed_record(str(item), "") for item in items]

    assert [r["file"] for r in attempt(work, [1, 2], str)] == ["1", "2"] and sizes == [2]
    assert [(r["file"], r["error"]) for r in attempt(work, [1, None, 2], str)] == [("1", ""), ("None", "no picture"), ("2", "")]
    assert sizes == [2, 3, 1, 1, 1]

    def broken(items: list[Any]) -> list[Record]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a fault of ours is not a picture's
        list(attempt(broken, [1, 2], str))


def test_records_say_what_a_scan_says_of_its_numbers() -> None:
    card = Card(name="grey", architecture="cifar10_resnet20", num_classes=2, classes=("a", "b"), in_channels=2,
                preprocess=Preprocess(resize=32, crop=32, raw_channels=1, value_range=(0, 900)).to_dict())  # fmt: skip
    grey = Classifier(from_card(card, {}).eval(), card)
    facts = {"window": (np.float32(-160), 240), "unit": "HU", "spacing": [float("nan"), 1.5], "shape": np.array([2, 3])}
    items = [Scan(pixels=torch.rand(1, 40, 64), facts=facts), np.full((40, 40), 450), Image.new("L", (40, 40), 9)]
    records = predicted(grey, ["scan", "array", "picture"], items)
    assert records[0]["scan"] == {"window": [-160.0, 240], "unit": "HU", "spacing": [None, 1.5], "shape": [2, 3]}
    assert records[1]["scan"] == {"window": [0.0, 900.0]} and "scan" not in records[2]
    assert records[0]["crop"] == {"fit": "crop", "share": 32 / 51, "box": [13, 0, 53, 40]}
    assert json.loads(json.dumps(records, allow_nan=False)) == records
