"""Recipes are the official ones to the last number, survive a file, and name what is wrong with a key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.models import build
from torchbcos.training import Recipe, find_recipe, list_recipes, read_recipe, to_toml, with_settings
from torchbcos.training.recipes import registry


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["epoch=3"], "no key 'epoch'. Did you mean 'epochs'"),
        (["epochs"], "takes key=value"),
        (["epochs=many"], "epochs must be a whole number, not 'many'"),
        (["epochs=0"], "between 1 and"),
        (["lr=fast"], "lr must be a number"),
        (["compile=1"], "compile must be true or false"),
        (["loss=bec"], "loss must be one of 'bce', .* Did you mean 'bce'"),
        (["crop_scale=0.5"], "crop_scale must be two numbers"),
        (["options=3"], "options must be a table"),
        (["warmup_epochs=1", "warmup_steps=2"], "not both"),
        (["ema_decay=0", "export=ema"], "needs averaged weights"),
        (["accumulate=7"], "cannot be divided into 7 equal parts"),
        (["epochs=inf"], "epochs must be finite"),
        (["lr=nan"], "lr must be finite"),
        (['crop_scale=["a", 1]'], "crop_scale must be two numbers"),
        (["guide=energy"], "guide='energy' with guide_weight=0 and guide_share=1 changes nothing"),
        (["teacher=runs/1"], "A teacher teaches nothing without"),
        (["guide=energy", "guide_weight=1", "guide_share=0"], "changes nothing"),
        (["selection_share=0", "export=best"], "export='best' needs pictures to choose by"),
        (["plain=true", "watch_every=5"], "no exact explanations to watch"),
        (["epochs=2", "epochs=5"], "epochs is set twice, to 2 and to 5"),
        (["grow_from=512"], "grow_from 512 is larger than image_size"),
    ],
)  # fmt: skip
def test_wrong_settings_get_one_sentence(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        with_settings(find_recipe("folder"), settings)
    assert "\n" not in str(caught.value)


def test_settings_of_options_and_bare_words() -> None:
    settings = ["options.max_out=2", "augment=augmix", "teacher=runs/1", "teacher_weight=1", "crop_scale=[0.5, 1]"]
    recipe = with_settings(find_recipe("folder"), settings)
    assert recipe.options == {"width_factor": 0.5, "antialias": True, "max_out": 2}
    assert (recipe.augment, recipe.teacher, recipe.crop_scale) == ("augmix", "runs/1", (0.5, 1.0))


def test_wrong_files(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    with pytest.raises(MissingFileError, match="no recipe file"):
        read_recipe(file)
    file.write_text("epochs = = 3")
    with pytest.raises(InputError, match="is no recipe file"):
        read_recipe(file)
    file.write_text("epoch = 3")
    with pytest.raises(InputError, match=r"r.toml': A recipe has no key 'epoch'"):
        read_recipe(file)


@given(
    epochs=st.integers(1, 1000), lr=st.floats(1e-9, 10), about=st.text(max_size=20), compile=st.booleans(),
    options=st.dictionaries(st.text(min_size=1), st.integers(-5, 5) | st.booleans() | st.text(max_size=5), max_size=3),
)  # fmt: skip
def test_any_recipe_survives_a_file(tmp_path_factory: pytest.TempPathFactory, **values: object) -> None:
    recipe = Recipe(**values)  # type: ignore[arg-type]
    file = tmp_path_factory.mktemp("r") / "r.toml"
    file.write_text(to_toml(recipe), "utf-8")
    assert read_recipe(file)[0] == recipe
