"""What the official trainer gets wrong, by the number of the list in docs/explanation/differences.md."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.training.data import squares, tiny
from torchbcos.data import open_labelled
from torchbcos.data.loading import Order
from torchbcos.training import Recipe, find_recipe, loop, read_recipe, train, with_settings
from torchbcos.training.optimisation import make_optimizer, rate_factor

ROOT = Path(__file__).parents[2]


def test_defect_42_a_current_lightning_is_asked_for_and_not_capped() -> None:
    (line,) = (text for text in metadata.requires("torchbcos") or [] if text.startswith("lightning"))
    assert ">=2.6" in line and "<" not in line.split(";")[0]
    assert tuple(map(int, metadata.version("lightning").split(".")[:2])) >= (2, 6)


def test_defect_43_checkpoints_hold_tensors_and_plain_values(tmp_path: Path) -> None:
    train(tiny(epochs=1), squares(tmp_path / "data"), tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    found = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["torchbcos"]["done"] == 3


def commands(text: str) -> list[list[str]]:
    """The words of every `torchbcos train` line of a page."""
    return [shlex.split(line.strip(), comments=True)[2:] for line in re.findall(r"^ *torchbcos train .*$", text, re.M)]


def unknown(words: list[str]) -> str:
    """What is wrong with the recipe or the settings of a command; "" if nothing is."""
    follows = {word: words[k - 1] if k else "" for k, word in enumerate(words)}
    values = [w for w in words if not w.startswith("-") and follows[w] not in ("--data", "--out", "--list", "--teacher")]
    recipes = [w for w in values if "=" not in w and not w.isdigit() and w not in ("ddp", "RECIPE")]
    try:
        for name in recipes:
            recipe = (
                read_recipe(ROOT / name, allow_code=True)[0]
                if name.startswith("docs/")
                else Recipe()
                if "/" in name
                else find_recipe(name)
            )
            with_settings(recipe, [w for w in values if "=" in w])
    except ValueError as error:
        return str(error)
    return "" if len(recipes) <= 1 else f"recipes {recipes}"


def test_defect_44_every_training_command_of_the_documentation_is_right() -> None:
    pages = [ROOT / "README.md", *(p for p in (ROOT / "docs").rglob("*.md") if "reference" not in p.parts)]
    found = [(page.name, words) for page in pages for words in commands(page.read_text("utf-8"))]
    assert len(found) >= 6
    assert [(name, words, unknown(words)) for name, words in found if unknown(words)] == []
    said = unknown(["resnet_18"])  # it can fail
    assert "There is no recipe 'resnet_18'. Did you mean" in said and "'bcos_final-resnet18'" in said
    assert "no key 'batch'" in unknown(["folder", "--data", "x", "--set", "batch=3"])


def test_defect_45_averages_count_optimiser_steps_and_need_no_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    usual = loop.update_average

    def update(average: Any, model: Any, step: int, per_epoch: int, recipe: Recipe) -> None:
        calls.append(step)
        usual(average, model, step, per_epoch, recipe)

    monkeypatch.setattr(loop, "update_average", update)
    recipe = tiny(epochs=2, accumulate=4, warmup_epochs=0.0, warmup_steps=0)
    train(recipe, squares(tmp_path / "data"), tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    assert calls == [1, 2, 3, 4, 5, 6]  # of 24 batches


def test_defect_46_warm_up_outlives_a_change_and_zero_is_a_value() -> None:
    recipe = find_recipe("vit_final").changed(epochs=7)
    assert (recipe.epochs, recipe.warmup_steps) == (7, 10_000)
    assert rate_factor(5_000, 100_000, recipe) == pytest.approx(0.01 + 0.99 / 2)
    assert with_settings(find_recipe("folder"), ["ema_decay=0", "lr_end=0.0"]).ema_decay == 0.0
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    decays = {}
    for everything in (True, False):
        chosen = Recipe(optimizer="adamw", weight_decay=0.1, decay_all=everything)
        groups = make_optimizer(net, chosen, set()).param_groups
        decays[everything] = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert set(decays[True].values()) == {0.1} and len(decays[False]) == 4
    assert [decays[False][id(p)] for p in net.parameters()] == [0.1, 0.0, 0.0, 0.0]


def test_defect_47_repeated_augmentation_in_one_process_and_on_small_sets() -> None:
    keys = [key for batch in Order(200, 64, epochs=1, repeats=4) for key in batch]
    assert len(keys) == 192 and len({i for i, _, _ in keys}) == 48


def test_defect_48_data_lies_where_one_says(tmp_path: Path) -> None:
    place = tmp_path / 'it\'s "my" data; $HOME'
    place.mkdir()
    records = np.zeros((10, 3073), np.uint8)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records.tofile(place / name)
    assert len(open_labelled(place).train) == 50
    squares(place / "folder")
    assert len(open_labelled(place / "folder").train) == 36
