"""Checkpoints of anybody: what no run writes gets one sentence, never a traceback, and is not trained on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.data import patches, tiny
from torchbcos._core.errors import BcosError, WeightsError
from torchbcos.runs import RunFolder
from torchbcos.training.kept import Kept
from torchbcos.training.state import State


def state_of(**values: Any) -> State:
    torch.manual_seed(0)
    return State.fresh(patches(3, 6), tiny(**values), torch.device("cpu"))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    state = state_of()
    state.network(torch.rand(4, 6, 8, 8)).sum().backward()
    state.optimizer.step()
    state.done, state.best = 3, {"score": 50.0, "epoch": 1}
    return state.to_checkpoint()


def test_a_sound_one_is_read(checkpoint: dict[str, Any]) -> None:
    assert Kept.of(checkpoint).done == 3
    state = state_of()
    state.restore(copy.deepcopy(checkpoint))
    assert state.done == 3 and state.best == {"score": 50.0, "epoch": 1}


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], None]:
    """Write a value at a place of a checkpoint."""

    def change(found: dict[str, Any]) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return change


NUMBERS = [
    ("done", value) for value in (-5, 2.5, True, "3", None, [3], 10**13)
] + [("seconds", value) for value in (-1.0, math.nan, math.inf, "1", None)] + [
    ("losses", value) for value in ([], [0.5], [0.5, -1], [0.5, 1.5], ["a", 1], 3, None, {"a": 1})
] + [("best", value) for value in ({}, {"score": "a"}, {"score": math.nan}, {"score": 1.0, "epoch": "b"}, [], None, 3)] + [
    ("failures", value) for value in (["a", 3], "a", None, {"a": 1})
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), NUMBERS, ids=str)
def test_numbers_that_no_run_writes(name: str, value: Any, checkpoint: dict[str, Any], tmp_path: Path) -> None:
    spoiled = copy.deepcopy(checkpoint)
    put(value, "torchbcos", name)(spoiled)
    with pytest.raises(WeightsError, match=f"is no checkpoint that a run has written: its '{name}' is ") as caught:
        Kept.of(spoiled)
    assert "\n" not in str(caught.value)
    folder = RunFolder(tmp_path)
    folder.write_checkpoint("last.ckpt", checkpoint)
    folder.write_checkpoint("last.ckpt", spoiled)
    found, [complaint] = folder.read_checkpoint(Kept.of)  # the one before is taken
    assert (
        found is not None and found["torchbcos"]["done"] == 3 and complaint.startswith(f"{str(folder.last)!r} is no checkpoint")
    )


WHOLES = [
    put(3, "torchbcos"), put({}, "torchbcos"), put([], "torchbcos"), put(None, "state_dict"), put([], "state_dict"),
    put({}, "state_dict"), put([], "optimizer_states"), put([3], "optimizer_states"), put({}, "optimizer_states"),
    put({}, "optimizer_states", 0), put(None, "optimizer_states", 0, "state"), put([], "optimizer_states", 0, "param_groups"),
    put([3], "optimizer_states", 0, "param_groups"), put({"a": 1}, "optimizer_states", 0, "state"),
    put({0: 3}, "optimizer_states", 0, "state"), put({0: {"step": 1}}, "optimizer_states", 0, "state"),
    put(torch.zeros(1), "optimizer_states", 0, "state", 0, "exp_avg"), put("a", "optimizer_states", 0, "state", 0, "exp_avg"),
    put(torch.zeros(3, 3), "optimizer_states", 0, "state", 0, "step"),
    put(torch.zeros(8, 6, 3, 3, dtype=torch.bool), "state_dict", "network.0.weight"),
    put(torch.zeros(8, 6, 3, 3, dtype=torch.complex64), "state_dict", "network.0.weight"),
    put(torch.zeros(8, 6, 3, 3, dtype=torch.float64), "state_dict", "network.0.weight"),
    put(torch.zeros(1), "state_dict", "network.0.weight"), put("a", "state_dict", "network.0.weight"),
    put(torch.zeros(8, 6, 3, 3).to_sparse(), "state_dict", "network.0.weight"),
    put(torch.zeros(1), "state_dict", "network.9.weight"), put(torch.zeros(1), "state_dict", "average.9.weight"),
]  # fmt: skip


@pytest.mark.parametrize("spoil", WHOLES)
def test_other_contents_get_one_sentence(spoil: Callable[[dict[str, Any]], None], checkpoint: dict[str, Any]) -> None:
    spoiled = copy.deepcopy(checkpoint)
    spoil(spoiled)
    with pytest.raises(WeightsError) as caught:
        state_of().restore(spoiled, "The checkpoint of 'runs/mine'")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500


def test_the_optimiser_learns_on_as_the_recipe_says(checkpoint: dict[str, Any]) -> None:
    """A checkpoint could turn the sign of every step; nothing of how it learns is taken from there."""
    spoiled = copy.deepcopy(checkpoint)
    for group in spoiled["optimizer_states"][0]["param_groups"]:
        group.update(maximize=True, betas=(0.0, 0.0), eps="a", lr=1e9)
    state = state_of()
    wanted = {key: value for key, value in state.optimizer.param_groups[0].items() if key != "params"}
    state.restore(spoiled)
    assert {key: value for key, value in state.optimizer.param_groups[0].items() if key != "params"} == wanted


def test_an_optimiser_of_another_kind(checkpoint: dict[str, Any]) -> None:
    for values in ({"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0}):
        with pytest.raises(WeightsError, match="memory of another optimiser"):
            state_of(**values).restore(copy.deepcopy(checkpoint))
    sgd = state_of(optimizer="sgd", momentum=0.9)
    sgd.network(torch.rand(4, 6, 8, 8)).sum().backward()
    sgd.optimizer.step()
    other = state_of(optimizer="sgd", momentum=0.9)
    other.restore(sgd.to_checkpoint())
    assert all("momentum_buffer" in memory for memory in other.optimizer.state.values())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(0, 4), inner, max_size=2),
    max_leaves=4,
)
PLACES = [
    ("torchbcos",), ("state_dict",), ("optimizer_states",), ("torchbcos", "done"), ("torchbcos", "best"),
    ("torchbcos", "best", "score"), ("torchbcos", "losses"), ("torchbcos", "failures"), ("optimizer_states", 0),
    ("optimizer_states", 0, "state"), ("optimizer_states", 0, "state", 0), ("optimizer_states", 0, "param_groups"),
    ("optimizer_states", 0, "param_groups", 0), ("state_dict", "network.0.weight"), ("MixedPrecision",),
]  # fmt: skip


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere(place: tuple[Any, ...], value: Any, checkpoint: dict[str, Any]) -> None:
    spoiled = copy.deepcopy(checkpoint)
    put(value, *place)(spoiled)
    state = state_of()
    try:
        state.restore(spoiled)
    except BcosError as error:
        assert "\n" not in str(error)
        return
    state.network(torch.rand(4, 6, 8, 8)).sum().backward()  # what is accepted can be trained on
    state.optimizer.step()
