"""Settings that cannot be: one sentence each, before a model is opened or a picture is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.coloured import classifier, folder
from torchbcos._core.errors import BcosError, InputError
from torchbcos.evaluation import compare
from torchbcos.evaluation import comparing as module
from torchbcos.evaluation.measures import MEASURES
from torchbcos.evaluation.named import NamedMetric, named_methods, named_metrics
from torchbcos.evaluation.trying import check_metrics


@pytest.mark.parametrize(
    "wrong",
    [
        "grid-pointing:n=0", "grid-pointing:n=x", "grid-pointing:n=1.5", "grid-pointing:n=-2", "grid-pointing:n=true",
        "grid-pointing:n=null", "grid-pointing:smooth=4", "grid-pointing:smooth=0", "grid-pointing:smooth=x", "difull:inside=yes",
        "dipart:kernel=box", "grid-pointing:order=diagonal", "deletion:replace=gray", "deletion:fractions=1/0",
        "deletion:fractions=x/3", "deletion:fractions=0", "deletion:fractions=-4", "deletion:fractions=2.0/4",
        "deletion:first=all",
        "deletion:ties=none", "deletion:sign=plus", "deletion:normalised=1", "deletion:score=logits", "insertion:fractions=nan/3",
        "insertion:replace=[1]", 'deletion:replace={"a"', "single-deletion:cells=1000", "single-deletion:cells=0",
        "idsds:cells=x",
        "road:measure=sum", "road:noise=-1", "road:noise=x", "road:ties=x", "sensitivity-n:sizes=0", "sensitivity-n:subsets=1",
        "sensitivity-n:subsets=x", "infidelity:noise=-1", "infidelity:samples=0", "infidelity:scaled=2",
        "max-sensitivity:radius=-1",
        "max-sensitivity:samples=0", "max-sensitivity:radius=x", "randomisation:kind=pearsonn", "label-sensitivity:kind=x",
        "map-iou:threshold=2", "map-iou:threshold=x", "pointing-hit:tolerance=-1", "pointing-hit:tolerance=x",
    ],
)  # fmt: skip
def test_values_that_a_setting_cannot_have(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(BcosError) as caught:
        compare(["no such model"], ["random"], [wrong], tmp_path / "no such data")
    text = str(caught.value)
    assert wrong.split(":")[0] in text and "no such" not in text and len(text) <= 500 and "\n" not in text, text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("grid-pointing:m=3", "no setting 'm'"), ("gini:n=3", "It has none"), ("deletion:frist=least", "Did you mean 'first'"),
        ("gini:", "KEY=VALUE"), ("gini:n", "KEY=VALUE"), ("gini:=3", "KEY=VALUE"), ("gini:n=", "KEY=VALUE"),
        ("ginni", "Did you mean 'gini'"),
        ("accuracy", "evaluate accuracy"), ("agreement", "every comparison"), ("funnybirds", "evaluate_funnybirds"),
        ("", "Unknown metric"),
    ],
)  # fmt: skip
def test_names_that_are_none(wrong: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        compare(["no such model"], ["random"], [wrong], "no such data")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("rise:samples=0", "samples"), ("rise:samples=x", "samples"), ("integrated_gradients:steps=0", "steps"),
        ("integrated_gradients:steps=x", "steps"), ("integrated_gradients:step=3", "Did you mean 'steps'"),
        ("ixg:scales=dead", "scales"),
        ("occlusion:window=0", "window"), ("occlusion:window=999", "window"), ("integrated_gradients:baseline=gray", "gray"),
        ("random:seed=3", "no settings"), ("integratedgradients", "Did you mean"), ("smooth_grad:samples=1e9", "samples"),
    ],
)  # fmt: skip
def test_methods_are_tried_before_pictures_are_read(wrong: str, said: str) -> None:
    with pytest.raises(BcosError, match=said) as caught:
        compare([classifier()], ["inherent", wrong], ["gini"], "no such data")
    assert len(str(caught.value)) <= 500 and "no such data" not in str(caught.value)


@pytest.mark.parametrize("name", ["lime", "kernel_shap"])
def test_what_needs_more_samples_than_a_trial_draws_is_tried_with_its_own(name: str) -> None:
    few = classifier(), ["inherent", f"{name}:samples=7"], ["gini"], "no such data"
    with pytest.raises(InputError, match="samples=7 are too few"):
        compare([few[0]], *few[1:])
    with pytest.raises(BcosError, match="no such data"):  # the methods passed
        compare([few[0]], ["inherent", f"{name}:samples=16"], *few[2:])


def test_usual_settings_and_protocols_pass() -> None:
    check_metrics([NamedMetric(name, name) for name in MEASURES])
    check_metrics(named_metrics(["deletion:fractions=0.25/16", "deletion:first=gap", "single-deletion:cells=14",
    "map-iou:threshold=null",
                                 "grid-pointing:n=5:smooth=15", "deletion:replace=0.5", "insertion:replace=zero6"]))  # fmt: skip


@pytest.mark.parametrize("protocol", ["bcos-v2", "coda", "difull", "probe", "rise", "idsds"])
def test_protocols_pass(protocol: str) -> None:
    wanted = module._options({"protocol": protocol})
    _, metrics = module._asked("random", list(MEASURES), None, wanted)
    assert len(metrics) == len(MEASURES)


def test_grids_of_two_orders_are_refused() -> None:
    with pytest.raises(InputError, match="same grids"):
        compare(["no such model"], ["random"], ["grid-pointing", "dipart:order=column"], "no such data")
    check_metrics(named_metrics(["grid-pointing", "dipart:order=column:n=3"]))


def test_methods_that_a_network_does_not_allow_are_no_error(tmp_path: Path) -> None:
    """`rollout` needs attention: the comparison goes on and says so."""
    data = folder(tmp_path / "data", 1)
    found = compare([classifier()], ["rollout:samples=3", "random"], ["gini"], data)
    assert "rollout" in found.sentences[0] + " ".join(found.sentences) and found.rows[0]["note"] and not found.rows[1]["note"]


def test_made_up_pictures_do_not_move_the_global_generator() -> None:
    before = torch.get_rng_state()
    check_metrics([NamedMetric(name, name) for name in MEASURES])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("given", [3, None, ["gini", 3], [("a", "b", "c")], object()])
def test_what_is_no_metric(given: Any) -> None:
    with pytest.raises(BcosError):
        compare(["no such model"], ["random"], given, "no such data")


@pytest.mark.parametrize("given", [3, None, [], ["inherent", 3], ["inherent", "inherent"], [("a", "b", "c")], object()])
def test_what_is_no_method(given: Any) -> None:
    with pytest.raises(BcosError):
        compare(["no such model"], given, ["gini"], "no such data")


@pytest.mark.parametrize("name", ["lime", "kernel_shap", "rise", "smooth_grad", "integrated_gradients"])
def test_maps_of_other_samples_are_other_maps(name: str) -> None:
    few, many = named_methods([f"{name}:samples=32", f"{name}:samples=64"])
    assert few.settings["samples"] == 32 and many.settings["samples"] == 64 and few.key != many.key
