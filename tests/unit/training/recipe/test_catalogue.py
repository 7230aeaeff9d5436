"""The recipes of the package are the official ones to the last number."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest

from torchbcos._core.errors import InputError
from torchbcos.models import build
from torchbcos.training import find_recipe, list_recipes, read_recipe, to_toml
from torchbcos.training.recipe import to_dict
from torchbcos.training.recipe.catalogue import registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# of all recipes of 0.1.0, with the keys that it had
NAMES, DIGEST = 348, "be61aacc825b5fc4fae3f212c29e3fcc14cbee89b76a97b129a0a2e3791542a9"
BEFORE = Path(__file__).parents[3] / "fixtures" / "recipes-0.1"


def digest(recipes: dict[str, dict[str, object]]) -> str:
    """A number for all values of all recipes."""
    return hashlib.sha256(json.dumps(recipes, sort_keys=True).encode()).hexdigest()


def test_no_value_of_a_recipe_has_changed_since_the_first_version() -> None:
    keys = tomllib.loads((BEFORE / "folder.toml").read_text("utf-8"))
    recipes = {name: {k: v for k, v in to_dict(find_recipe(name)).items() if k in keys} for name in list_recipes()}
    for name in ("align", "surface", "two-stage", *list_recipes("aligned-*")):  # came later
        del recipes[name]
    assert len(recipes) == NAMES
    assert digest(recipes) == DIGEST
    recipes["folder"]["lr"] = 4.1e-4
    assert digest(recipes) != DIGEST


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_recipe_names_itself_and_survives_a_file(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe, {"classes": ['a "b"', "ü"], "pictures": 3}))
    assert read_recipe(file) == (recipe, {"classes": ['a "b"', "ü"], "pictures": 3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1  # type: ignore[misc]


OFFICIAL = {  # the table of the official configurations
    "cifar10_resnet20-bnu-nobias": dict(optimizer="adam", lr=1e-3, schedule="cosine", schedule_by="epoch", epochs=100,
        batch_size=64, crop="pad", crop_padding=4, loss="bce", clip="", ema_decay=0, plain=False),
    "bcos_final-resnet50": dict(optimizer="adam", lr=1e-3, warmup_epochs=5, warmup_start=0.01, schedule_by="epoch", epochs=90,
        batch_size=256, crop="random", crop_scale=(0.08, 1.0), image_size=224, test_resize=256, loss="bce_uniform", clip="agc",
        clip_value=0.01, ema_decay=0),
    "bcos_final-resnext50_32x4d": dict(epochs=100),
    "bcos_final_long-resnet152": dict(epochs=600, batch_size=1024, accumulate=2, image_size=176, test_resize=232,
        augment="trivialaugment", erasing=0.1, mixup=0.2, cutmix=1.0, mix_chance=1.0, repeats=4, ema_decay=0.99998, ema_every=32,
        ema_from_epoch=5, ema_scaled=True, options={"stochastic_depth": 0.1}),
    "bcos_final_long-densenet121": dict(repeats=1, options={}),
    "bcos_final_long-convnext_base": dict(accumulate=2, options={"stochastic_depth": 0.5}),
    "vit_final-simple_vit_s_patch16_224": dict(warmup_steps=10_000, augment="randaugment", augment_ops=2, augment_magnitude=10,
        mixup=0.2, epochs=90, schedule_by="step", loss="bce_uniform", clip="agc"),
    "vit_final-vitc_l_patch1_14": dict(warmup_steps=50_000),
    "vit_final-simple_vit_b_patch16_224": dict(warmup_steps=50_000),
    "vit_final-vitc_b_patch1_14": dict(warmup_steps=10_000),
    "vit_final-standard_simple_vit_s_patch16_224": dict(optimizer="adamw", weight_decay=1e-4, loss="cross_entropy", clip="norm",
        clip_value=1.0, plain=True),
    "aligned-bvt_tiny_patch8": dict(optimizer="adamw", lr=1e-3, weight_decay=1e-4, schedule="cosine", batch_size=64, epochs=10),
    "aligned-vit_small_patch8": dict(optimizer="adamw", lr=1e-4, weight_decay=1e-4, batch_size=16, ordinary=True),
    "aligned-bwin_tiny": dict(lr=1e-3, batch_size=32, epochs=6), "aligned-swin_tiny": dict(lr=1e-4, batch_size=32, epochs=6),
    "baseline-resnet50": dict(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, schedule="step", step_size=30, gamma=0.1,
        epochs=90, batch_size=256, loss="cross_entropy", plain=True),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_numbers(name: str) -> None:
    recipe = find_recipe(name)
    assert {key: getattr(recipe, key) for key in OFFICIAL[name]} == OFFICIAL[name]


def test_cifar10_recipes_cover_depths_norms_forms_and_maxout() -> None:
    names = list_recipes("cifar10_*")
    assert len(names) == 4 * ((1 + 12 * 3) * 2 + 1)
    for name in ("", "-gn-unaffine-nomaxout", "-lnu-nobias", "-plain"):
        recipe = find_recipe(f"cifar10_resnet56{name}")
        model = build(recipe.model, plain=recipe.plain, **recipe.options)
        assert model.num_classes == 10
    norm = build("cifar10_resnet20", **find_recipe("cifar10_resnet20-bn-unaffine").options).get_submodule("bn1")
    assert norm.weight is None and norm.bias is None and norm.centered
    norm = build("cifar10_resnet20", **find_recipe("cifar10_resnet20-bnu").options).get_submodule("bn1")
    assert norm.bias is not None and not norm.centered


def test_usual_names_and_near_ones() -> None:
    assert find_recipe("bcos_final").model == "resnet50"
    with pytest.raises(InputError, match="Did you mean 'imagenette'"):
        find_recipe("imagenete")
