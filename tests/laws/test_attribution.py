"""Laws of every method in METHODS: right or refused on every kind of network, nothing left behind, K targets = K calls."""

from __future__ import annotations

import contextlib
import gc
import random
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, ExplanationWarning
from torchbcos.attribution import METHODS, Attribution
from torchbcos.models import vit
from torchbcos.models.blocks import Style

NETWORKS = ("bcos", "plain", "vit")
SAMPLES = {"rise": 12, "lime": 24, "kernel_shap": 24}
# Where a method is not what its name says: it warns, or it refuses, and says why. Everything else runs without a word.
WARNS = {
    ("deep_lift", "bcos"): "no rule",
    ("deep_lift", "vit"): "no rule",
    ("guided_backprop", "bcos"): "no ReLU",
    ("guided_backprop", "vit"): "no ReLU",
    ("rollout", "vit"): "same map",
    ("raw_attention", "vit"): "same map",
}
REFUSES = {
    ("rollout", "bcos"): "attention",
    ("rollout", "plain"): "attention",
    ("raw_attention", "bcos"): "attention",
    ("raw_attention", "plain"): "attention",
    ("gradient_attention", "bcos"): "attention",
    ("gradient_attention", "plain"): "attention",
    ("lrp", "bcos"): "inherent",
    ("lrp", "vit"): "rule",
}
CASES = [(method, network) for method in METHODS for network in NETWORKS]


def network(kind: str) -> tuple[nn.Module, Tensor]:
    """A small network with five classes in eval mode, and three pictures for it."""
    torch.manual_seed(0)
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if kind == "plain":
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )  # fmt: skip
        return net.double().eval(), x
    x = torch.cat([x, 1 - x], 1)
    if kind == "bcos":
        net = nn.Sequential(
            bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False), bnn.BcosConv2d(8, 8, 3, stride=2),
            bnn.BcosConv2d(8, 5, 1), bnn.GlobalAveragePool(),
        )  # fmt: skip
        return net.double().eval(), x
    sizes = vit.ViTSizes(dim=16, heads=2, mlp=24, depth=2, patch=4, head_dim=8)
    return vit.build(sizes, Style(norm="layer", norm_centered=True), num_classes=5).double().eval(), x


@contextlib.contextmanager
def said(method: str, kind: str) -> Iterator[None]:
    """What the method says of a network: nothing, a warning, or why it refuses."""
    if (method, kind) in REFUSES:
        with pytest.raises(BcosError, match=REFUSES[method, kind]):
            yield
    elif (method, kind) in WARNS:
        with pytest.warns(ExplanationWarning, match=WARNS[method, kind]):
            yield
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield


def run(model: nn.Module, x: Tensor, targets: object, method: str, batch_size: int | None = None) -> Attribution:
    return torchbcos.attribute(
        model, x, targets, method=method, samples=SAMPLES.get(method, 3), batch_size=batch_size, baseline="grey"
    )  # fmt: skip


def quiet(model: nn.Module, x: Tensor, targets: object, method: str, batch_size: int | None = None) -> Attribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplanationWarning)
        return run(model, x, targets, method, batch_size)


def state(model: nn.Module) -> list[object]:
    """Everything that a call could leave changed."""
    modules = [
        (name, m.training, *(len(h) for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)))
        for name, m in model.named_modules()
    ]
    tensors = [
        (name, t._version, t.requires_grad, t.grad is None, t.detach().clone())
        for name, t in (*model.named_parameters(), *model.named_buffers())
    ]
    world = [torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.is_grad_enabled()]
    return [modules, tensors, world, [type(mode).__name__ for mode in torch.overrides._get_current_function_mode_stack()]]


def same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_every_method_on_every_kind_of_network(method: str, kind: str) -> None:
    """Right shapes, finite, nothing left behind, the same bits again; or its reason."""
    model, x = network(kind)
    before, given = state(model), x.clone()
    with said(method, kind):
        a = run(model, x, torch.tensor([[1, 4], [0, 2], [3, 1]]), method)
        assert a.maps.shape == (3, 2, 16, 16) and bool(a.maps.isfinite().all()) and a.passes > 0
        assert a.values is None or a.values.shape == (3, 2, *x.shape[1:])
        record = METHODS[method]
        assert (a.maps >= 0).all() or record.signed
        if record.class_specific:
            assert not torch.allclose(a.maps[:, 0], a.maps[:, 1])
        with contextlib.suppress(KeyError), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplanationWarning)
            assert torch.equal(run(model, x, torch.tensor([[1, 4], [0, 2], [3, 1]]), method).maps, a.maps)
    assert same(state(model), before) and torch.equal(x, given)


@pytest.mark.parametrize(("method", "kind"), [case for case in CASES if case not in REFUSES])
def test_many_targets_and_images_are_each_alone(method: str, kind: str) -> None:
    model, x = network(kind)
    targets = torch.tensor([[1, 4, 0], [0, 2, 2], [3, 1, 4]])
    whole = quiet(model, x, targets, method)
    scale = float(whole.maps.abs().max())
    for size in (1, 16):
        assert torch.allclose(quiet(model, x, targets, method, size).maps, whole.maps, atol=1e-9 * scale)
    for i, k in ((0, 0), (1, 2), (2, 1)):
        alone = quiet(model, x[i : i + 1], int(targets[i, k]), method)
        assert torch.allclose(alone.maps[0, 0], whole.maps[i, k], atol=1e-9 * scale)


class Breaking(nn.Module):
    """A layer that fails at its n-th call."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("planted")
        return x


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("calls", [0, 1])
def test_nothing_is_left_behind_by_an_error(method: str, calls: int) -> None:
    kind = "vit" if "attention" in METHODS[method].kind else "plain"
    inner, x = network(kind)
    model = nn.Sequential(inner, Breaking(calls)).eval()
    before, raised = state(model), False
    try:
        quiet(model, x, 1, method)
    except (RuntimeError, BcosError):
        raised = True
    assert same(state(model), before)
    if calls == 0:
        assert raised


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kind"), [case for case in CASES if case not in REFUSES])
def test_a_thousand_calls_leave_nothing(method: str, kind: str) -> None:
    model, x = network(kind)
    x = x[:1]
    quiet(model, x, 1, method)
    before = state(model)
    gc.collect()
    count = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    for _ in range(1000):
        quiet(model, x, 1, method)
    gc.collect()
    assert same(state(model), before)
    assert sum(issubclass(type(o), Tensor) for o in gc.get_objects()) <= count + 5


class InPlace(nn.Module):
    """A network that normalises what it is given in place, and cuts it in place, or does so with copies."""

    def __init__(self, network: nn.Module, inplace: bool) -> None:
        super().__init__()
        self.network, self.inplace = network, inplace

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.relu_() if self.inplace else x.relu())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "inherent"])  # which refuses it
def test_a_network_that_edits_its_input_changes_nobodys_pictures(method: str) -> None:
    kind = "vit" if METHODS[method].kind == "attention" else "plain"
    network_, x = network(kind)
    x = x - 0.3
    given = x.clone()
    a = quiet(InPlace(network_, True).eval(), x, 1, method)
    assert torch.equal(x, given) and torch.equal(a.inputs, given)
    assert torch.equal(a.maps, quiet(InPlace(network_, False).eval(), x, 1, method).maps)


def test_functions_that_edit_their_input_change_nobodys_pictures() -> None:
    network_, x = network("plain")
    given = x.clone()
    for method in ("occlusion", "saliency"):
        maps = torchbcos.attribute(lambda p: network_(p.sub_(0.5)), x, 1, method=method).maps
        assert torch.equal(x, given)
        assert torch.equal(maps, torchbcos.attribute(lambda p: network_(p - 0.5), x, 1, method=method).maps)


class Root(nn.Module):
    """Its gradient is infinite where a pixel is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt().flatten(1)


def test_maps_that_are_not_finite_are_refused() -> None:
    x = torch.rand(2, 1, 2, 2)
    x[1] = 0
    with pytest.raises(BcosError, match=r"saliency gives NaN or infinity for image 1"):
        torchbcos.attribute(Root().eval(), x, 1, method="saliency")


class Wrapped(nn.Module):
    """Outputs that are not (N, classes)."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, x: Tensor) -> object:
        y = self.network(x)
        return {"tuple": (y,), "dictionary": {"logits": y}, "complex": y.to(torch.complex64), "detached": y.detach()}[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "dictionary", "complex", "detached"])
@pytest.mark.parametrize("method", ["inherent", "saliency", "deep_lift", "grad_cam", "lrp"])
def test_outputs_of_another_kind_are_one_sentence(kind: str, method: str) -> None:
    network_, x = network("plain")
    with pytest.raises(BcosError) as error:
        quiet(Wrapped(network_, kind).eval(), x, 1, method)
    assert "output=" not in str(error.value)  # attribute has no such argument
