"""What `save` accepts, `load` reads back to the same numbers; everything else is refused in one sentence."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

import torchbcos
from torchbcos.training.watch import _watching
from torchbcos.zoo import Classifier

X = torch.rand(2, 6, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = torchbcos.create_model("cifar10_resnet20", num_classes=3, logit_bias=-1.5)
    torchbcos.recalibrate(made, [torch.rand(8, 6, 32, 32)])
    return made.eval()


def compiled_inside(model: Any) -> nn.Module:
    model.layer1 = torch.compile(model.layer1)
    model.fc = torch.compile(model.fc)
    return model  # type: ignore[no-any-return]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


def synchronised(model: nn.Module) -> nn.Module:
    for norm in model.modules():
        if isinstance(norm, torchbcos.nn.BatchNorm):
            norm.sync, norm.momentum = True, 0.01
    return model


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda m: m,
    "compiled": torch.compile,
    "compiled in place": compiled_in_place,
    "compiled inside": compiled_inside,
    "average": AveragedModel,
    "compiled DataParallel": lambda m: torch.compile(nn.DataParallel(m)),
    "frozen, channels last": lambda m: m.requires_grad_(False).to(memory_format=torch.channels_last),
    "training": lambda m: synchronised(m.train()),
    "deployed": torchbcos.deploy,
    "deployed and compiled": lambda m: torch.compile(torchbcos.deploy(m)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", WRAPPED)
def test_wrappers_are_taken_off(how: str, network: nn.Module, tmp_path: Path) -> None:
    torchbcos.save(WRAPPED[how](copy.deepcopy(network)), tmp_path / "m")
    again = torchbcos.load(tmp_path / "m", device="cpu", deploy=False)
    torch.testing.assert_close(again.model.eval()(X), network(X), rtol=1e-5, atol=1e-5)
    wrapped = Classifier(WRAPPED[how](copy.deepcopy(network)), again.card)
    torchbcos.save(wrapped, tmp_path / "c")
    torch.testing.assert_close(torchbcos.create_model(weights=tmp_path / "c").eval()(X), network(X), rtol=1e-5, atol=1e-5)


class Twice(nn.Module):
    """A parametrisation."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def edit(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of a network in place, as a function that returns the network."""

    def changed(model: Any) -> Any:
        change(model)
        return model

    return changed


def complex_weight(model: Any) -> None:
    model.conv1.weight = nn.Parameter(model.conv1.weight.to(torch.complex64))


class Sees:
    """A hook that is an object, and changes what the layer gives."""

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return 2 * output


def wrapped_with_hook(model: nn.Module) -> nn.Module:
    outer = nn.DataParallel(model)
    outer.register_forward_hook(Sees())
    return outer


HOOKED = "a forward hook stands on its layer 'layer1.0.conv1'.*Remove it first"
OTHERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "parametrised": (edit(lambda m: parametrize.register_parametrization(m.conv1, "weight", Twice())), "remove_parametrizations"),
    "weight norm": (edit(lambda m: parametrizations.weight_norm(m.conv1)), "'conv1' is a ParametrizedBcosConv2d"),
    "old weight norm": (edit(lambda m: torch.nn.utils.weight_norm(m.conv1)), "'conv1.weight' is not there any more"),
    "pruned": (edit(lambda m: prune.l1_unstructured(m.conv1, "weight", 0.5)), "'conv1.weight' is not there any more"),
    "quantised": (edit(lambda m: setattr(m, "fc", torch.ao.nn.quantized.dynamic.Linear(64, 3))), "'fc' is a Linear, where"),
    "another b": (edit(lambda m: setattr(m.conv1, "b", 1.5)), r"'conv1' has b=1\.5, where create_model sets 2\.0"),
    "another epsilon": (edit(lambda m: setattr(m.bn1, "eps", 0.1)), r"'bn1' has eps=0\.1"),
    "another bias": (edit(lambda m: setattr(m, "logits", torchbcos.nn.Logits(-9.0))), r"'logits' has bias=-9\.0"),
    "a layer more": (edit(lambda m: m.add_module("extra", nn.Linear(2, 2))), "'extra' .Linear. was added"),
    "a layer less": (edit(lambda m: setattr(m.layer1, "0", nn.Identity())), "it lacks the layer 'layer1.0.conv1'"),
    "an activation": (edit(lambda m: setattr(m.layer1[0], "act", nn.Tanh())), "'layer1.0.act' is a Tanh"),
    "a forward of its own": (edit(lambda m: setattr(m.layer2, "forward", lambda x: x)), "'layer2' has a forward of its own"),
    "a buffer": (edit(lambda m: m.conv1.register_buffer("mask", torch.ones(2))), "'conv1.mask' was added"),
    "another width": (edit(lambda m: setattr(m.bn1, "weight", nn.Parameter(torch.ones(3)))), r"'bn1.weight' has the shape \(3"),
    "a hook": (edit(lambda m: m.layer1[0].conv1.register_forward_hook(lambda m, a, y: 3 * y)), HOOKED),
    "a hook that is an object": (edit(lambda m: m.layer1[0].conv1.register_forward_hook(Sees())), r"\(Sees\)"),
    "a hook of a part": (edit(lambda m: m.layer1[0].conv1.register_forward_hook(functools.partial(torch.mul))), HOOKED),
    "a hook before": (edit(lambda m: m.layer1[0].conv1.register_forward_pre_hook(lambda m, a: (2 * a[0],))), HOOKED),
    "a hook with keywords": (
        edit(lambda m: m.layer1[0].conv1.register_forward_hook(lambda m, a, k, y: y, with_kwargs=True)), HOOKED
    ),
    "a hook at the top": (edit(lambda m: m.register_forward_hook(Sees())), "a forward hook stands on its ResNet"),
    "a hook on a wrapper": (wrapped_with_hook, "a forward hook stands on its DataParallel"),
    "a hook on a compiled layer": (
        edit(lambda m: compiled_inside(m).layer1.register_forward_hook(Sees())), "stands on its layer 'layer1'"  # type: ignore[operator,union-attr]
    ),
    "features of its own": (edit(lambda m: setattr(m, "forward_features", lambda x: x)), "it has a forward_features of its own"),
    "a head of its own": (edit(lambda m: setattr(m, "forward_head", lambda x: x)), "it has a forward_head of its own"),
    "a method of a layer": (edit(lambda m: setattr(m.conv1, "compute", lambda x: x)), "'conv1' has a compute of its own"),
    "a call of its own": (edit(lambda m: setattr(m.bn1, "_call_impl", lambda x: x)), "'bn1' has a _call_impl of its own"),
    "another scale": (edit(lambda m: setattr(m.conv1, "_b", 1.5)), "'conv1' has "),
    "another head": (
        edit(lambda m: setattr(m, "head", dataclasses.replace(m.head, temperature=7.0))), "it has head=Head"
    ),
    "an attribute of the class": (edit(lambda m: setattr(m, "smallest", 7)), "has smallest=7, where create_model leaves 1"),
    "a setting that is a tensor": (edit(lambda m: setattr(m.bn1, "eps", torch.ones(2))), "'bn1' has eps=tensor"),
    "a buffer outside the state": (
        edit(lambda m: m.conv1.register_buffer("mask", torch.ones(2), persistent=False)), "the buffer 'conv1.mask' is in only"
    ),
    "a norm in training": (edit(lambda m: m.bn1.train()), "its layer 'bn1' in training mode"),
    "scripted": (lambda m: torch.jit.script(nn.Linear(2, 2)), "cannot tell how this RecursiveScriptModule is built"),
    "exported": (lambda m: object(), "not object"),
    "complex": (edit(complex_weight), "'conv1.weight' is complex64"),
    "without numbers": (lambda m: m.to("meta"), "is meta, without numbers"),
    "NaN": (edit(lambda m: m.conv1.weight.data[0].fill_(torch.nan)), "cannot be saved: the tensor 'conv1.weight' holds NaN"),
    "negative variance": (edit(lambda m: m.bn1.running_var.fill_(-1)), "the variance 'bn1.running_var' is negative"),
    "classes": (edit(lambda m: setattr(m, "class_names", ("a",))), "'classes' has 1 names, but num_classes is 3"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", OTHERS)
def test_what_load_would_build_otherwise_is_refused(how: str, network: nn.Module, tmp_path: Path) -> None:
    change, text = OTHERS[how]
    with pytest.raises(torchbcos.BcosError, match=text) as caught:
        torchbcos.save(change(copy.deepcopy(network)), tmp_path / "m")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500
    assert not (tmp_path / "m").exists()


def test_hooks_that_only_watch_stand_in_no_way(network: nn.Module, tmp_path: Path) -> None:
    """Those of this library, during a measurement; and those of the backward pass, which change no output."""
    model = copy.deepcopy(network)
    model.register_full_backward_hook(lambda module, given, taken: None)
    with _watching(model, {}):
        assert any(module._forward_hooks for module in model.modules())
        torchbcos.save(model, tmp_path / "m")
    torch.testing.assert_close(torchbcos.create_model(weights=tmp_path / "m").eval()(X), network(X), rtol=1e-5, atol=1e-5)


def test_frozen_norms_in_a_training_network_are_saved(network: nn.Module, tmp_path: Path) -> None:
    model: Any = copy.deepcopy(network).train()
    model.bn1.eval()
    torchbcos.save(model, tmp_path / "m")
    torch.testing.assert_close(torchbcos.create_model(weights=tmp_path / "m").eval()(X), network(X), rtol=1e-5, atol=1e-5)
