"""A setting says what it accepts, and refuses the rest in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training.recipe.setting import Setting, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class Example:
    """A group as a worker of the future may write it."""

    size: int = setting(8, "side of something", unit="pixels", low=1, high=4096, resume="fixed")
    mode: Literal["a", "b"] = setting("a", "one of two")
    table: Mapping[str, Any] = setting({}, "whatever there is")


def test_a_field_carries_its_text_unit_and_range() -> None:
    found = settings_of(Example)
    assert list(found) == ["size", "mode", "table"]
    assert found["size"] == Setting("size", int, 8, "side of something", "pixels", 1, 4096, "fixed")
    assert found["size"].accepts == "1 to 4,096 pixels" and found["mode"].accepts == '"a", "b"'
    assert found["mode"].choices == ("a", "b") and found["size"].choices == ()
    assert Example() == Example() and Example().table is not Example().table


def test_a_field_without_text_is_refused() -> None:
    @dataclass(frozen=True)
    class Bare:
        size: int = 8

    with pytest.raises(TypeError, match="text"):
        settings_of(Bare)


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (int, 3.0, 3), (float, 3, 3.0), (bool, True, True), (str, "a", "a"), (Literal["32", "16"], 32, "32"),
        (tuple[float, float], [0.5, 1], (0.5, 1.0)), (Mapping[str, Any], {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_values_are_read_as_their_type(kind: Any, given: Any, read: Any) -> None:
    found = Setting("key", kind, None, "a text").read(given)
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        (int, 3.5, "a whole number"), (int, True, "a whole number"), (float, True, "a number"), (float, "3", "a number"),
        (bool, 1, "true or false"), (str, 1, "a text"), (tuple[float, float], [1], "two numbers"), (float, [1, 2], "a number"),
        (tuple[float, float], ["a", 1], "two numbers"), (Mapping[str, Any], 3, "a table"), (float, float("nan"), "finite"),
        (tuple[float, float], [0.5, float("inf")], "finite"),
    ],
)  # fmt: skip
def test_other_types_are_refused(kind: Any, given: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=f"key must be {wanted}"):
        Setting("key", kind, None, "a text").read(given)
