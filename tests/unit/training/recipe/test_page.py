"""The page of settings is what the code says, and settings are found by a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training import list_settings
from torchbcos.training.recipe import GROUPS, find_settings, settings_page, to_record

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "settings.md"


def test_the_page_is_what_the_code_prints() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "settings have changed: run `make docs`"


def test_the_page_has_a_line_for_each_setting() -> None:
    rows = [line.split(" | ") for line in settings_page().splitlines() if line.startswith("| `")]
    assert [row[0].split("`")[1] for row in rows] == list(list_settings())
    assert {len(row) for row in rows} == {4}
    assert next(row[0] for row in rows if row[0].endswith("*")) == "| `model` *"


def test_settings_are_found_by_a_part_a_pattern_or_a_group() -> None:
    assert [one.key for one in find_settings("size")] == [
        "image_size", "test_size", "test_resize", "batch_size", "step_size", "guide_size_corrected",
    ]  # fmt: skip
    assert [one.key for one in find_settings("*_size", "lr")] == [
        "image_size", "test_size", "batch_size", "lr", "head_lr", "lr_end", "step_size",
    ]  # fmt: skip
    assert len(find_settings("guidance")) == 20 and len(find_settings()) == len(list_settings())
    with pytest.raises(InputError, match=r"no setting 'epohcs'\. Did you mean 'epochs'"):
        find_settings("epohcs")


def test_records_survive_json() -> None:
    records = [to_record(one) for one in find_settings()]
    assert {record["group"] for record in records} == set(GROUPS)
    assert {record["type"] for record in records} == {"text", "bool", "int", "float", "a table", "two numbers ([0.5, 1])"}
    read = {record["key"]: record for record in json.loads(json.dumps(records))}
    assert read["flip"]["low"] == 0 and read["flip"]["high"] == 1 and read["crop_scale"]["default"] == [0.08, 1.0]
