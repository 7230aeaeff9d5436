"""A classifier's temperature, fitted on data: on which part of it, what is said of that, and what the card keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.data import open_labelled
from torchbcos.data.division import divide
from torchbcos.evaluation import calibrate_model, measure_accuracy
from torchbcos.metrics import fit_temperature
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier

CLASSES = ("blue", "green", "red")
PLACES = (2, 1, 0)  # of their channels


class Channel(nn.Module):
    """Each class's logit is ten times the mean of its channel: too sure, since some pictures lie in a wrong folder."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x[:, PLACES].mean((2, 3))


def classifier(**card: Any) -> Classifier:
    facts: dict[str, Any] = {"name": "colours", "architecture": "none", "classes": CLASSES, "num_classes": 3, **card}
    preprocess = Preprocess(resize=None, crop=None).to_dict()
    return Classifier(Channel().eval(), Card(preprocess=preprocess, probability="softmax", **facts))


def pictures(place: Path, count: int) -> None:
    random = np.random.default_rng(count)
    for k, name in enumerate(CLASSES):
        (place / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 90, (8, 8, 3)).astype(np.uint8)
            pixels[..., PLACES[(k + (i % 4 == 0)) % 3]] = 160
            Image.fromarray(pixels).save(place / name / f"{place.name}-{i}.png")


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with a split of its own."""
    place = tmp_path_factory.mktemp("data")
    pictures(place / "train", 30)
    pictures(place / "val", 15)
    return place


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data without."""
    place = tmp_path_factory.mktemp("data") / "all"
    pictures(place, 50)
    return place


def logits(model: Classifier, files: list[str]) -> Tensor:
    with torch.no_grad():
        return model.model(model.preprocess(files))


def test_a_temperature_is_what_metrics_would_fit_and_the_card_keeps_it(halves: Path) -> None:
    model = classifier(notes={"made by": "hand"})
    fitted, found = calibrate_model(model, halves, split="train", workers=0)
    files = sorted((halves / "train").rglob("*.png"))
    targets = torch.tensor([CLASSES.index(file.parent.name) for file in files])
    expected = fit_temperature(logits(model, [str(file) for file in files]), targets, probability="softmax")
    assert found["temperature"] == fitted.card.temperature == pytest.approx(expected, abs=1e-4) and found["was"] is None
    assert fitted.model is model.model and model.card.temperature is None
    assert fitted.card == replace(model.card, temperature=found["temperature"], notes=fitted.card.notes)
    words = f"90 pictures of {halves.name} (train)"
    assert fitted.card.notes == {"made by": "hand", "temperature fitted on": words} and found["pictures"] == 90
    for when, one in (("before", model), ("after", fitted)):
        measured = measure_accuracy(one, halves, split="train", workers=0)
        assert found[when] == {name: measured[name] for name in ("ece", "loss")}
    assert found["after"]["ece"] < found["before"]["ece"] and found["after"]["loss"] < found["before"]["loss"]
    again, second = calibrate_model(fitted, halves, split="train", workers=0)  # it is fitted on logits, not on what it was
    assert (second["was"], second["temperature"]) == (found["temperature"],) * 2 and second["before"] == second["after"]
    assert again.card == fitted.card
    picture = str(files[1])
    a, b = (one.predict(picture, top_k=3)[0] for one in (model, fitted))
    assert [(p.index, p.logit) for p in a] == [(p.index, p.logit) for p in b] and a[0].probability > b[0].probability


def test_notes_of_another_form_stay(halves: Path) -> None:
    assert calibrate_model(classifier(notes=["a list"]), halves, split="val", workers=0)[0].card.notes == ["a list"]


@pytest.mark.parametrize(
    ("recipe", "share", "seed", "said"),
    [
        (None, 0.1, 42, "Nobody knows what this model was trained on"),
        ({"selection_share": 0.2, "report_share": 0.3, "seed": 7}, 0.2, 7, r"holds out of such data \(20%, seed 7\)"),
        ({"selection_share": 0.0, "report_share": 0.1, "seed": 7}, 0.1, 7, r"held nothing out \(selection_share = 0\)"),
        ({"selection_share": "all", "report_share": 0.1, "seed": 7}, 0.1, 42, "Nobody knows"),
        ({"selection_share": 0.2, "report_share": 7.0, "seed": 7}, 0.1, 42, "Nobody knows"),
        ({"selection_share": 0.2, "report_share": 0.1, "seed": True}, 0.1, 42, "Nobody knows"),
        ("as published", 0.1, 42, "Nobody knows"),
    ],
)
def test_without_a_run_it_is_what_a_training_would_hold_out(recipe: Any, share: float, seed: int, said: str, whole: Path) -> None:
    report = recipe["report_share"] if seed != 42 else 0.1
    parts = divide(open_labelled(whole), selection=share, report=report, seed=seed)
    assert parts.selection is not None and parts.report is not None
    _, found = calibrate_model(classifier(recipe=recipe), whole, workers=0)
    assert found["split"] == "selection" and found["pictures"] == len(parts.selection)
    model = classifier()
    files = [str(whole / name) for name in parts.selection.names]
    expected = fit_temperature(logits(model, files), parts.selection.targets, probability="softmax")
    assert found["temperature"] == pytest.approx(expected, abs=1e-4)
    [note] = [note for note in found["notes"] if "rough" not in note]
    assert re.search(said, note)


def test_a_split_that_is_reported_is_spent(halves: Path) -> None:
    [note, _] = calibrate_model(classifier(), halves, split="val", workers=0)[1]["notes"]
    assert note.startswith("The temperature is fitted on 'val': this split is no honest judge of the calibration")
    [note, _] = calibrate_model(classifier(), halves, split="train", workers=0)[1]["notes"]
    assert note.startswith("If the network was trained on 'train', it is right more often there")
    assert not any("no honest judge" in note for note in calibrate_model(classifier(), halves, workers=0)[1]["notes"])


def test_no_temperature_to_keep(whole: Path, tmp_path: Path) -> None:
    for name in CLASSES:  # each picture in its own folder
        (tmp_path / name).mkdir()
    for i, file in enumerate(sorted(whole.rglob("*.png"))):
        with Image.open(file) as image:
            best = int(np.asarray(image).reshape(-1, 3).mean(0).argmax())
        (tmp_path / CLASSES[PLACES.index(best)] / f"{i}.png").write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"no temperature to keep\. All of these 150 examples are answered rightly"):
        calibrate_model(classifier(), tmp_path, split="all", workers=0)
    with pytest.raises(InputError, match="There is no split 'test'"):
        calibrate_model(classifier(), whole, split="test", workers=0)
    for name in CLASSES:
        for file in sorted((tmp_path / name).iterdir())[1:]:
            file.unlink()
    with pytest.raises(InputError, match="Too few examples to hold some out"):
        calibrate_model(classifier(), tmp_path, workers=0)
