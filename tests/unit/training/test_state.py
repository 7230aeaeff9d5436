"""The state of a run and its checkpoint: of this version, and of the one before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.unit.training.data import patches, squares, tiny
from torchbcos.training import read_recipe, train
from torchbcos.training.state import SCALER, State

OLD = Path(__file__).parents[2] / "fixtures" / "run-0.1"  # interrupted after step 4 of 6; `whole.pt` is where 0.1 came without


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[key].double() - value.double()).abs().max()) for key, value in b.items())


def test_a_run_of_the_version_before_goes_on(tmp_path: Path) -> None:
    """Weights, averages, optimiser and step: without any of them the end is another."""
    shutil.copytree(OLD / "run", tmp_path / "run")
    recipe, _ = read_recipe(tmp_path / "run" / "recipe.toml", allow_code=True)
    lines: list[str] = []
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "say": lines.append}
    report = train(recipe, squares(tmp_path / "data"), tmp_path / "run", **options)
    assert "from step 4 of 6" in lines[0] and report["steps"] == 6
    expected = torch.load(OLD / "whole.pt", weights_only=True)
    kept = torch.load(OLD / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert distance(found, expected) < 1e-5 < 1e-4 < distance({k: kept[f"average.{k}"] for k in expected}, expected)
    assert (tmp_path / "run" / "history.csv").read_text().splitlines()[1].startswith("3,1,0.68")


@pytest.mark.parametrize("part", ["network.", "average.", "optimizer"])
def test_every_part_of_an_old_checkpoint_matters(part: str, tmp_path: Path) -> None:
    """The test above can fail: with one part of the checkpoint changed, the end is another."""
    shutil.copytree(OLD / "run", tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    kept = torch.load(last, weights_only=True)
    for name, value in kept["state_dict"].items():
        if name.startswith(part) and value.is_floating_point():
            value.mul_(1.01)
    for state in kept["optimizer_states"][0]["state"].values() if part == "optimizer" else ():
        state["exp_avg"].zero_()
    torch.save(kept, last)
    recipe, _ = read_recipe(tmp_path / "run" / "recipe.toml", allow_code=True)
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "say": lambda _: None}
    train(recipe, squares(tmp_path / "data"), tmp_path / "run", **options)
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert distance(found, torch.load(OLD / "whole.pt", weights_only=True)) > 1e-5


def state_of(network: nn.Module, **values: Any) -> State:
    return State.fresh(network, tiny(**values), torch.device("cpu"))


def test_a_checkpoint_brings_everything_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = state_of(patches(3, 6), weight_decay=0.1)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(2):
        state.network(torch.rand(4, 6, 8, 8)).sum().backward()
        state.optimizer.step()
    state.done, state.best, state.failures = 7, {"score": 3.0, "epoch": 2}, ["a.png: broken"]
    state.note_loss(torch.tensor(0.5))
    torch.save(state.to_checkpoint(), tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)
    other = state_of(patches(3, 6), weight_decay=0.2)
    other.scaler = torch.amp.GradScaler("cpu")
    other.restore(kept)
    again = other.to_checkpoint()
    assert again["torchbcos"].pop("seconds") >= kept["torchbcos"].pop("seconds")
    assert again["torchbcos"] == kept["torchbcos"] and again[SCALER] == kept[SCALER]
    assert again["state_dict"].keys() == kept["state_dict"].keys()
    assert all(torch.equal(again["state_dict"][key], value) for key, value in kept["state_dict"].items())
    for mine, theirs in zip(again["optimizer_states"], kept["optimizer_states"], strict=True):
        assert all(torch.equal(mine["state"][i][k], v) for i, part in theirs["state"].items() for k, v in part.items())
    assert {group["weight_decay"] for group in other.optimizer.param_groups} == {0.2}  # the recipe decides, not the checkpoint


def test_weights_that_are_no_numbers_are_noticed() -> None:
    state = state_of(patches(3, 6))
    assert state.finite()
    next(state.network.parameters()).data[0] = float("nan")
    assert not state.finite()
