"""A recipe is one flat value made of groups."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training import OptimisationSettings, Recipe, list_settings
from torchbcos.training.recipe import GROUPS, group_of, machine_keys, to_dict, trajectory_keys
from torchbcos.training.recipe.setting import settings_of


def test_keys_are_flat_and_in_the_order_of_the_groups() -> None:
    keys = [key for kind in GROUPS.values() for key in settings_of(kind)]
    assert list(list_settings()) == list(to_dict(Recipe())) == keys
    assert len(keys) == len(set(keys)) and keys[:3] == ["name", "about", "model"] and keys[-1] == "teacher_temperature"
    assert all(key in settings_of(GROUPS[group_of(key)]) for key in keys)


def test_a_recipe_is_a_value_and_each_of_its_groups() -> None:
    recipe = Recipe(epochs=3, options={"norm": "layer"})
    assert recipe == Recipe().changed(epochs=3, options={"norm": "layer"}) != Recipe(epochs=3)
    assert pickle.loads(pickle.dumps(recipe)) == recipe == copy.deepcopy(recipe)

    def seconds(settings: OptimisationSettings) -> int:
        return settings.epochs * settings.batch_size

    assert isinstance(recipe, OptimisationSettings) and seconds(recipe) == seconds(OptimisationSettings(epochs=3)) == 768
    assert OptimisationSettings(epochs=3) != recipe


def test_what_a_run_may_change() -> None:
    assert set(machine_keys()) == {
        "name", "about", "workers", "on_error", "judge_every", "checkpoint_steps", "keep_every", "watch_every", "compile",
        "channels_last",
    }  # fmt: skip
    assert set(trajectory_keys()) == {
        "model", "options", "plain", "pretrained", "seed", "batch_size", "accumulate", "repeats", "selection_share",
        "report_share", "optimizer", "decay_all", "averaged", "channels", "axes", "value_range", "uncertain",
        "b_epochs", "b_start", "normalize",
    }  # fmt: skip


def test_groups_are_checked_against_each_other() -> None:
    with pytest.raises(InputError, match="needs averaged weights"):
        Recipe(export="ema")
    with pytest.raises(InputError, match="needs pictures to choose by"):
        Recipe(export="best", selection_share=0.0)
    with pytest.raises(InputError, match="no exact explanations to watch"):
        Recipe(plain=True, watch_every=5)


def test_the_name_of_a_plain_twin_makes_a_recipe_ordinary_and_no_other() -> None:
    recipe = Recipe(model="vit_tiny_patch8")
    assert recipe.ordinary and not recipe.plain
    assert not recipe.changed(model="bvt_tiny_patch8").ordinary and recipe.changed(model="swin_tiny").ordinary
    assert Recipe(model="bvt_tiny_patch8", plain=True).ordinary


@pytest.mark.parametrize(("changes", "text"), [
    ({"normalize": "a b"}, "normalize must be one of none, imagenet, or means"),
    ({"normalize": "imagenet", "options": {"normalize": "imagenet"}}, "normalize is set twice"),
])  # fmt: skip
def test_normalize_is_checked(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Recipe(**changes)
