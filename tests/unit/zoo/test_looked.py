"""Classifiers around networks that cannot be explained warn, and predict; explanations that do not add up warn once a call."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchbcos
from tests.planted import KNOWN, SLIGHTLY, WRONG, Between, Hides
from torchbcos import Classifier, ExplanationWarning
from torchbcos._core.errors import StateError
from torchbcos.zoo.records import explained

NAMES = ("a", "b", "c")


def held() -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Sigmoid())


def warned(work: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    assert all(w.category is ExplanationWarning and w.filename == __file__ for w in caught), [str(w) for w in caught]
    return [str(w.message) for w in caught]


CASES = {**{f"wrong: {what}": make for what, make in WRONG.items()}, **{f"right: {what}": make for what, make in KNOWN.items()}}


@pytest.mark.parametrize("what", CASES)
def test_a_classifier_around_it_says_so(what: str) -> None:
    torch.manual_seed(0)
    said = warned(lambda: Classifier(CASES[what](), class_names=NAMES))
    assert len(said) == what.startswith("wrong") and all(
        "predicts, but explain cannot explain it exactly: " in s and "not add up" in s for s in said
    )


def test_a_network_that_is_refused_predicts_and_says_why_it_is_not_explained(tmp_path: Path) -> None:
    made: list[Classifier] = []
    (said,) = warned(lambda: made.append(Classifier(held(), class_names=NAMES)))
    assert "they are values that are held, not a linear map of the input" in said
    assert len(made[0].predict(torch.rand(3, 16, 16))[0]) == 3
    with pytest.raises(StateError, match="they are values that are held"):
        made[0].explain(torch.rand(3, 16, 16))
    assert len(warned(lambda: torchbcos.save(held(), tmp_path / "one"))) == 1
    assert not warned(lambda: torchbcos.save(made[0], tmp_path / "two"))  # it was said when the classifier was made
    assert not warned(lambda: torchbcos.load(tmp_path / "two", device="cpu"))


def test_an_ordinary_network_is_explained_without_a_word() -> None:
    torch.manual_seed(0)
    made: list[Classifier] = []
    assert not warned(lambda: made.append(Classifier(held()[:-1], class_names=NAMES)))  # type: ignore[index]
    assert made[0].explain(torch.rand(3, 16, 16)).complete.all()


def test_our_own_networks_and_their_plain_twins() -> None:
    def made(plain: bool) -> list[str]:
        return warned(lambda: Classifier(torchbcos.create_model("cifar10_resnet20", num_classes=3, plain=plain)))

    assert not made(False) and not made(True)  # of ReLU, and with biases that are named: its twin is explained, too
    changed = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    changed.norm_behind = nn.BatchNorm2d(3)  # somebody's layer in it: looked at, and it takes no part
    assert not warned(lambda: Classifier(changed))


def test_an_explanation_that_does_not_add_up_warns_once_a_call() -> None:
    torch.manual_seed(0)
    model = SLIGHTLY["a bias"](torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = Classifier(model, class_names=NAMES)
    x = torch.rand(3, 3, 12, 12)
    (said,) = warned(lambda: clf.explain(x, batch_size=1))
    assert "does not add up" in said and "check_model(model, x) names it" in said
    assert warned(lambda: list(clf.iter_explain(x, batch_size=1))) == [said]  # no number in it: Python shows it once a line
    assert not warned(lambda: torchbcos.explain(model, clf.preprocess(x)))  # for research: it says so in `complete`
    assert not warned(lambda: Classifier(Between(), class_names=NAMES).explain(x))


def test_records_say_what_is_missing() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = Classifier(SLIGHTLY["a number"](torch.float32), class_names=NAMES)
    record = explained(clf, ["x.png"], [torch.rand(3, 12, 12)], [0, 1])[0]  # and no warning: the record says it
    assert [e["complete"] for e in record["explanations"]] == [False, False] and json.dumps(record)
    assert record["warning"].startswith("Pixels and constants do not add up to this logit: 5.0e-04 is missing.")
    other = explained(clf, ["x.png"], [torch.rand(3, 12, 12)], [0], contrast=1)[0]
    assert other["explanations"][0]["complete"] and "warning" not in other  # what is missing in both cancels
    bias = SLIGHTLY["a bias"](torch.float32)
    assert isinstance(bias.behind, Hides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = Classifier(bias, class_names=NAMES)
    assert "this difference" in explained(wrong, ["x.png"], [torch.rand(3, 12, 12)], [0], contrast=1)[0]["warning"]
