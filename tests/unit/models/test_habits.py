"""Words of timm and torchvision: each is answered with what it is here, and the table of the docs is the one of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import torchbcos
from torchbcos._core.errors import ArgumentTypeError
from torchbcos.models import build
from torchbcos.models.habits import ATTRIBUTES, OPTIONS, habit_of
from torchbcos.models.registry import FAMILIES

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "timm.md"
ROWS = [
    pytest.param(words, code, said.strip(), id=words[:40])
    for words, code, said in re.findall(r"^\| (.+?) \| (.+?) \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    if "`" in words
]


@pytest.mark.parametrize("word", OPTIONS)
def test_a_foreign_option_is_answered_with_its_own_sentence(word: str) -> None:
    with torch.device("meta"), pytest.raises(ArgumentTypeError) as caught:
        build("cifar10_resnet20", **{word: None})
    text = str(caught.value)
    assert f"has no option {word!r}: {OPTIONS[word]}. Options: num_classes, in_channels, plain, " in text
    assert "Did you mean" not in text and len(text) <= 500


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.network.__name__)
def test_no_foreign_word_is_one_of_ours(family: Any) -> None:
    ours = {"num_classes", "in_channels", "plain", "name", "weights", "pretrained", *family.options()}
    assert not ours & (set(OPTIONS) - {"layer_scale"})


# a slip of the pen in a foreign word, or one that no list names -> the word that it is taken for; None: one of ours is nearer
SLIPS = [("drop_path_prob", "drop_path_rate"), ("in_chanels", None), ("img_sizes", "img_size"), ("norm_eps_", None)]


@pytest.mark.parametrize(("word", "meant"), SLIPS)
def test_near_words_come_from_habits_and_from_our_own(word: str, meant: str | None) -> None:
    with torch.device("meta"), pytest.raises(ArgumentTypeError) as caught:
        build("resnet18", **{word: 1})
    assert (f"(or {meant!r}): {OPTIONS[meant]}." if meant else "Did you mean") in str(caught.value)


def test_a_network_says_what_the_attributes_of_others_are_here() -> None:
    net = build("cifar10_resnet20", num_classes=3)
    for name, sentence in ATTRIBUTES.items():
        with pytest.raises(AttributeError, match=re.escape(f"ResNet has no attribute {name!r}: {sentence}.")):
            getattr(net, name)
    with pytest.raises(AttributeError, match="object has no attribute 'fc2'"):  # others as ever
        _ = net.fc2
    assert net.get_classifier() is net.classifier_layer() and not any(hasattr(type(net), name) for name in ATTRIBUTES)


def test_habit_of_prefers_what_is_nearer() -> None:
    assert habit_of("in_channels_", ["in_channels"]) is None
    assert habit_of("xyzzy", ["in_channels"]) is None


# -- the page --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "code", "said"), ROWS)
def test_each_row_of_the_page_runs_and_says_what_the_code_says(
    words: str, code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in words_of(words) & {*OPTIONS, *ATTRIBUTES}:
        assert {**ATTRIBUTES, **OPTIONS}[word] == said
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = build("cifar10_resnet20", num_classes=3)
    names = {"torch": torch, "torchbcos": torchbcos, "network": net, "x": torch.rand(1, 6, 32, 32)}
    torchbcos.save(net, "my-model")
    for line in re.findall(r"`([^`]+)`", code):
        exec(compile(line, words, "exec"), names)


def words_of(cell: str) -> set[str]:
    """The foreign words of a first cell: "`in_chans=`, `.default_cfg`"."""
    return {re.split(r"[=(]", word)[0] for word in re.findall(r"`\.?([^`]+)`", cell)}


def test_the_page_has_a_row_for_every_word() -> None:
    shown = {word for row in ROWS for word in words_of(str(row.values[0]))}
    assert {*OPTIONS, *ATTRIBUTES} - shown == set()
    assert "in_chans" in shown and "layer_scale" not in shown  # it can fail
