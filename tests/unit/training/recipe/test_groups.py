"""Every setting has a text and a range, and every group checks itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training import GuidanceSettings, OptimisationSettings, PictureSettings, Recipe, list_settings
from torchbcos.training.recipe import GROUPS, Setting
from torchbcos.training.recipe.setting import settings_of

NUMBERS = [one for one in list_settings().values() if one.kind in (int, float)]


def faults(one: Setting) -> list[str]:
    """What is wrong with the words about a setting."""
    found = []
    if not re.fullmatch(r"[a-z\"].{8,249}[^.;,\s]", one.text):
        found.append("no sentence of at most 250 signs, without a full stop")
    if not one.text.isascii():
        found.append("signs that a terminal may lack")
    if re.search(r"\bso (many|much|long)\b|\bof which\b|\bas they are\b|\btold\b", one.text):
        found.append("a turn that readers stumble over")
    if "|" in one.text or "\n" in one.text:
        found.append("breaks a table")
    if one.choices and not all(choice in one.text for choice in one.choices if choice) and len(one.choices) > 3:
        found.append("choices that the text does not explain")
    if (one.kind in (int, float)) != (one.low is not None and one.high is not None):
        found.append("a number without a range")
    return found


def test_every_setting_has_words_and_every_number_a_range() -> None:
    allowed = {"augment"}  # names of published methods explain themselves
    assert {key: found for key, one in list_settings().items() if (found := faults(one)) and key not in allowed} == {}


def test_bad_words_are_seen() -> None:
    assert faults(Setting("a", int, 1, "epochs, so many of which there are.")) != []
    assert faults(Setting("a", float, 1.0, "a number of epochs")) == ["a number without a range"]
    assert faults(Setting("a", int, 1, "epochs that it learns so long", low=0, high=1)) == ["a turn that readers stumble over"]


def test_units_are_plain_words() -> None:
    assert {one.unit for one in list_settings().values()} == {
        "", "axes", "channels", "pixels", "epochs", "steps", "pictures", "parts", "copies", "changes", "processes", "times lr",
    }  # fmt: skip


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.key)
def test_numbers_outside_the_range_are_refused_by_the_group_alone(one: Setting) -> None:
    group = next(kind for kind in GROUPS.values() if one.key in settings_of(kind))
    assert one.low is not None and one.high is not None and one.low <= one.default <= one.high
    for value in (one.low - 1, one.high + 1):
        message = f"{one.key} must lie between {one.low:g} and {one.high:g}, not {value!r}."
        for kind in (group, Recipe):
            with pytest.raises(InputError, match=re.escape(message)):
                kind(**{one.key: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PictureSettings(crop="centre"), "crop must be one of 'random', 'pad', 'none', not 'centre'"),  # type: ignore[arg-type]
        (lambda: PictureSettings(grow_from=512), "grow_from 512 is larger than image_size"),
        (lambda: OptimisationSettings(warmup_epochs=1, warmup_steps=2), "not both"),
        (lambda: OptimisationSettings(accumulate=7), "cannot be divided into 7 equal parts"),
        (lambda: GuidanceSettings(guide="energy"), "changes nothing"),
        (lambda: GuidanceSettings(teacher="runs/1"), "A teacher teaches nothing without"),
        (lambda: GuidanceSettings(teacher="a.pt2", teacher_explanations=1.0), "no B-cos explanations"),
    ],
)
def test_each_group_checks_itself(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_docstrings_hold_the_texts() -> None:
    for kind in GROUPS.values():
        for one in settings_of(kind).values():
            assert f"    {one.key}: {one.text}" in (kind.__doc__ or "") and one.text in (Recipe.__doc__ or "")
