"""Cards of strangers: every field has a type and a range, and what a card says fits together."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from torchbcos._core.errors import InputError, WeightsError
from torchbcos.zoo.card import Card, read_official_cards
from torchbcos.zoo.fields import parse_json
from torchbcos.zoo.sources import embedded_folder
from torchbcos.zoo.store import read_card

GOOD: dict[str, Any] = json.loads((embedded_folder() / "imagenette" / "card.json").read_text("utf-8"))
TEN = [f"class {i}" for i in range(10)]

OWN = {"architecture": "import:mynets:Net"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"classes": ["a"]}, r"'classes' has 1 names, but num_classes is 10"),
    ({"classes": [f"{i}" for i in range(200)]}, r"'classes' has 200 names, but num_classes is 10"),
    ({"classes": "imagenet"}, r"'classes' has 1000 names"),
    ({"classes": "imagenette"}, r"must be a list of class names, or 'imagenet'"),
    ({"classes": {}}, r"must be a list of class names"),
    ({"classes": 7}, r"must be a list of class names"),
    ({"classes": [["a"], *TEN[1:]]}, r"must be a list of class names"),
    ({"classes": [*TEN[1:], "class 3"]}, r"has the class 'class 3' twice: numbers 2 and 9"),
    ({"classes": ["", *TEN[1:]]}, r"has a class that is empty: number 0"),
    ({"classes": ["a" * 201, *TEN[1:]]}, r"has 201 characters, more than 200"),
    ({"classes": ["a\x1b[2J", *TEN[1:]]}, r"control character U\+001B"),
    ({"classes": ["fake: 100%\r", *TEN[1:]]}, r"control character U\+000D"),
    ({"classes": ["\u202egnp.exe", *TEN[1:]]}, r"U\+202E"),
    ({"classes": ["\ud800", *TEN[1:]]}, r"U\+D800"),
    ({"probability": "evil"}, r"'probability' must be 'sigmoid' or 'softmax', not 'evil'"),
    ({"probability": ["sigmoid"]}, r"'probability' must be"),
    ({"top1": "x"}, r"'top1' must be a number from 0 to 100"),
    ({"top1": True}, r"'top1' must be a number"),
    ({"top5": 100.5}, r"'top5' must be a number from 0 to 100"),
    ({"top1": math.nan}, r"'top1' must be a number"),
    ({"plain": "x"}, r"'plain' must be true or false"),
    ({"plain": 0}, r"'plain' must be true or false"),
    ({"deployed": "no"}, r"'deployed' must be true or false, not 'no'"),
    ({"deployed": None}, r"'deployed' must be true or false"),
    ({"options": [1]}, r"'options' must be a table"),
    ({"options": None}, r"'options' must be a table"),
    ({"options": {"width_factor": math.inf}}, r"'options' holds inf"),
    ({"preprocess": "x"}, r"'preprocess' is wrong"),
    ({"preprocess": [1]}, r"'preprocess' is wrong"),
    ({"preprocess": {"resize": "a"}}, r"'preprocess' is wrong: resize"),
    ({"preprocess": {"resize": 8, "colour": 1}}, r"no setting 'colour'"),
    ({"in_channels": [6]}, r"'in_channels' must be a whole number from 1 to"),
    ({"in_channels": True}, r"'in_channels' must be a whole number"),
    ({"in_channels": 10**9}, r"'in_channels' must be a whole number"),
    ({"num_classes": 10**9, "classes": None}, r"'num_classes' must be a whole number from 0 to"),
    ({"num_classes": 10.0}, r"'num_classes' must be a whole number"),
    ({"num_classes": -1, "classes": []}, r"'num_classes' must be a whole number"),
    ({"parameters": -1}, r"'parameters' must be a whole number"),
    ({"name": "evil\x1b[5m"}, r"'name' contains the character U\+001B"),
    ({"name": "a" * 201}, r"'name' has 201 characters"),
    ({"name": " "}, r"'name' must be a text"),
    ({"licence": "a\u2028b"}, r"'licence' contains the character U\+2028"),
    ({"terms": ["x"]}, r"'terms' must be a text"),
    ({"measured": "\x07"}, r"'measured' contains the character U\+0007"),
    ({"file": "../../w.pth"}, r"'file' must be the name of a file without a folder"),
    ({"sha256": "xyz"}, r"'sha256' must be up to 64 hexadecimal digits"),
    ({"digest": 5}, r"'digest' must be up to 64 hexadecimal digits"),
    ({"notes": {"a": ["\x1b]0;x\x07"]}}, r"'notes' contains the character U\+001B"),
    ({"recipe": {"\x1b": 1}}, r"'recipe' contains the character U\+001B"),
    ({"probe": {"size": [8], "logits": [1.0]}}, r"'probe' is of networks that code builds"),
    ({**OWN, "probe": [1.0]}, r"'probe' must be a table of 'size' and 'logits'"),
    ({**OWN, "probe": {"size": [8], "logits": [1.0], "x": 1}}, r"'probe' must be a table"),
    ({**OWN, "probe": {"size": [], "logits": [1.0]}}, r"'probe' must have a size of one to three"),
    ({**OWN, "probe": {"size": [8, True], "logits": [1.0]}}, r"'probe' must have a size"),
    ({**OWN, "probe": {"size": [8] * 4, "logits": [1.0]}}, r"'probe' must have a size"),
    ({**OWN, "probe": {"size": [2**26, 2**26], "logits": [1.0]}}, r"'probe' has an input of [\d,]+ numbers"),
    ({**OWN, "probe": {"size": [8], "logits": []}}, r"'probe' must have logits, 1 to 16 finite numbers"),
    ({**OWN, "probe": {"size": [8], "logits": [float("inf")]}}, r"'probe' must have logits"),
    ({**OWN, "probe": {"size": [8], "logits": [10**400]}}, r"'probe' must have logits"),
    ({**OWN, "probe": {"size": [8], "logits": ["1"]}}, r"'probe' must have logits"),
    ({**OWN, "probe": {"size": [8], "logits": [1.0] * 17}}, r"'probe' must have logits"),
    ({"schema": True}, r"schema True is not 1"),
    ({"schema": 1.0}, r"'schema' must be"),
    ({1: 2}, r"unknown field '1'"),
    ({"x" * 999: 2}, r"unknown field 'xxx"),
]


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[str(change)[:40] for change, _ in WRONG])
def test_a_field_has_a_type_and_a_range(change: dict[str, Any], text: str) -> None:
    with pytest.raises(WeightsError, match=text) as caught:
        Card.from_dict({**GOOD, **change}, where="'card.json'")
    assert str(caught.value).startswith("'card.json': ") and len(str(caught.value)) <= 500


def test_cards_of_our_own_and_of_before_are_read() -> None:
    assert Card.from_dict(GOOD) == Card.from_dict(json.loads(json.dumps(Card.from_dict(GOOD).to_dict())))
    for card in read_official_cards().values():
        assert Card.from_dict(card.to_dict()) == card
        assert len(set(card.class_names())) == card.num_classes == 1000
    free = {"recipe": {"about": "two\nlines", "crop_scale": [0.25, 1.0]}, "notes": "a\ttab", "terms": ""}
    assert Card.from_dict({**GOOD, **free}).recipe == free["recipe"]


def test_a_card_made_in_python_is_checked_too() -> None:
    with pytest.raises(InputError, match=r"The card of 'a': the field 'classes' has 1 names, but num_classes is 1000"):
        Card(name="a", architecture="resnet18", classes=("cat",))
    card = Card(name="a", architecture="resnet18", classes=["cat", "dog"], num_classes=2)  # type: ignore[arg-type]
    assert card.class_names() == ("cat", "dog")  # a list was once passed over, and the classes were "class 0", "class 1"
    with pytest.raises(InputError, match="JSON cannot hold"):
        dataclasses.replace(card, notes={"file": Path("x")})
    with pytest.raises(InputError, match="'deployed' must be true or false"):
        dataclasses.replace(card, deployed="no")  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3), max_leaves=6,
)  # fmt: skip


@given(name=st.sampled_from([f.name for f in dataclasses.fields(Card)]), value=JSON)
def test_whatever_a_field_holds_the_card_is_refused_or_true(name: str, value: Any) -> None:
    try:
        card = Card.from_dict({**GOOD, name: value}, where="here")
    except torchbcos.BcosError as error:
        assert len(str(error)) <= 500
        return
    assert len(card.class_names()) == card.num_classes
    text = json.dumps(card.to_dict(), allow_nan=False, ensure_ascii=False)
    assert Card.from_dict(json.loads(text)) == card and not any(c in text for c in "\x1b\r\x07\x00")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"top1": NaN}', "has NaN"),
        ('{"top1": -Infinity}', "has -Infinity"),
        ('{"name": "a", "name": "b"}', "has the field 'name' twice"),
        ('{"notes": {"a": 1, "a": 2}}', "has the field 'a' twice"),
        ("[" * 100_000, "is nested deeper than 32"),
        ('{"notes": ' + "[" * 40 + "]" * 40 + "}", "is nested deeper than 32"),
        ('{"top1": ' + "9" * 5000 + "}", "has a number of 5,000 digits"),
        ('{"name": ', r"is not valid JSON \(line 1\)"),
    ],
)
def test_json_is_read_strictly(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(WeightsError, match=rf"card\.json' {reason}.*: the card is damaged"):
        read_card(tmp_path)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps(GOOD), "utf-8-sig")
    assert read_card(tmp_path) == Card.from_dict(GOOD)
    (tmp_path / "card.json").write_text(json.dumps(GOOD), "utf-16")
    with pytest.raises(WeightsError, match="not valid JSON in UTF-8"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({**GOOD, "top1": 5}).replace("5,", "1e999,", 1))
    with pytest.raises(WeightsError, match="must be a number from 0 to 100, not inf"):
        read_card(tmp_path)


def test_a_million_class_names_take_seconds_and_a_huge_card_is_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="names, but num_classes is 10"):
        Card.from_dict({**GOOD, "classes": [str(i) for i in range(200_000)]})
    with (tmp_path / "card.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(WeightsError, match="it is no card"):
        read_card(tmp_path)
