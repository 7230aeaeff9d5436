"""Folding norms into convolutions changes no number, and says what was folded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.deployment import deploy, pairs
from torchbcos.models import build
from torchbcos.nn.filters import FilterLayer

FAMILIES = [
    ("cifar10_resnet20", {}, 21),
    ("cifar10_resnet20", {"antialias": True}, 21),
    ("cifar10_resnet20", {"max_out": 2}, 0),
    ("cifar10_resnet20", {"norm_bias": True}, 0),
    ("cifar10_resnet20", {"b": 1.5}, 0),
    ("resnet18", {"width_factor": 0.25}, 20),
]


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Norm statistics of noise, and factors of both signs."""
    torch.manual_seed(seed)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 48, 48) for _ in range(2)])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, bnn.Norm) and module.weight is not None:
                module.weight.copy_(torch.randn_like(module.weight) + 0.5)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 48, 48) for _ in range(2)])
    return model.eval()


@pytest.mark.parametrize(("name", "options", "count"), FAMILIES, ids=str)
def test_folded_networks_give_the_same(name: str, options: dict[str, object], count: int) -> None:
    model = with_statistics(build(name, num_classes=5, **options)).double()
    twin = deploy(model)
    folded = [m for m in twin.modules() if isinstance(m, bnn.Folded)]
    assert len(folded) == count
    x = torch.rand(3, 6, 48, 48, dtype=torch.float64)
    torch.testing.assert_close(twin(x), model(x), rtol=1e-9, atol=1e-9)
    ours, theirs = torchbcos.explain(twin, x, top_k=2), torchbcos.explain(model, x, top_k=2)
    scale = theirs.weights.abs().max()
    assert (ours.weights - theirs.weights).abs().max() <= 1e-9 * scale
    assert ours.constants.keys() == theirs.constants.keys()
    assert ours.residual.abs().max() < 1e-9


@given(
    seed=st.integers(0, 999), groups=st.sampled_from([1, 2, 4]), unit=st.booleans(), kernel=st.sampled_from([1, 3, 5]),
    max_out=st.integers(1, 3),
)  # fmt: skip
def test_any_convolution_and_norm(seed: int, groups: int, unit: bool, kernel: int, max_out: int) -> None:
    torch.manual_seed(seed)
    conv = bnn.BcosConv2d(4, 8, kernel, padding=kernel // 2, groups=groups, unit_norm=unit, max_out=max_out)
    norm = bnn.BatchNorm(8, centered=False, bias=False)
    with torch.no_grad():
        assert norm.weight is not None
        norm.weight.normal_()
        if max_out > 1:
            norm.weight.abs_()
        norm.running_var.uniform_(0.01, 3)
    model = nn.Sequential(conv, norm).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    twin = deploy(model)
    assert isinstance(twin[1], bnn.Folded)  # type: ignore[index]
    torch.testing.assert_close(twin(x), model(x), rtol=1e-9, atol=1e-12)
    assert torch.equal(conv.weight, model[0].weight)  # type: ignore[arg-type]


def test_maxout_with_a_negative_factor_is_not_folded() -> None:
    model = nn.Sequential(bnn.BcosConv2d(4, 8, 3, max_out=2), bnn.BatchNorm(8, centered=False, bias=False)).eval()
    with torch.no_grad():
        model[1].weight[3] = -1.0  # type: ignore[index]
    x, twin = torch.randn(2, 4, 7, 7), deploy(model)
    assert type(twin[1]) is bnn.BatchNorm  # type: ignore[index]
    torch.testing.assert_close(twin(x), model(x))
    # the guard is needed: folded all the same, the numbers are others
    assert not pairs.fold_checked_(model[0], model[1])  # type: ignore[arg-type]


class Shared(nn.Module):
    """The convolution's output is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = bnn.BcosConv2d(2, 2, 1), bnn.BatchNorm(2, centered=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Declared(Shared):
    """It is read once, and the class says so."""

    adjacent = (("conv", "norm"),)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out


class Heir(Declared):
    """What a class declares does not hold for another forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + super().forward(x)


@pytest.mark.parametrize(("make", "count"), [(Shared, 0), (Declared, 1), (Heir, 0)])
def test_what_is_folded_in_networks_of_users(make: type[Shared], count: int) -> None:
    model = make()
    model.norm.running_var.fill_(0.3)
    twin = deploy(model)
    assert sum(isinstance(m, bnn.Folded) for m in twin.modules()) == count
    x = torch.rand(2, 2, 3, 3)
    torch.testing.assert_close(twin(x), model.eval()(x))


def test_layers_that_stand_in_two_places_are_not_folded() -> None:
    conv, norm = bnn.BcosConv2d(2, 2, 1), bnn.BatchNorm(2, centered=False, bias=False)
    norm.running_var.fill_(0.3)
    other = bnn.BatchNorm(2, centered=False, bias=False)
    for model in (nn.Sequential(conv, norm, conv, other), nn.Sequential(conv, norm, bnn.BcosConv2d(2, 2, 1), norm)):
        twin = deploy(model)
        assert not any(isinstance(m, bnn.Folded) for m in twin.modules())


@pytest.mark.parametrize("name", ["resnet18", "cifar10_densenet52", "vgg11_bnu", "convnext_atto"])
def test_stages_of_a_twin_are_those_of_the_network(name: str) -> None:
    options = {"norm": "batch"} if name.startswith("convnext") else {}
    model = build(name, num_classes=3, **options).eval()
    x = torch.rand(1, 6, 32, 32)
    for ours, theirs in zip(deploy(model).forward_stages(x), model.forward_stages(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.detach().abs().max()))


def test_a_wrong_fold_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(bnn.BcosConv2d(2, 2, 1), bnn.BatchNorm(2, centered=False, bias=False))
    monkeypatch.setattr(pairs, "fold_pair_", lambda conv, norm: conv.weight.data.mul_(1.1))
    model[1].running_var.fill_(0.3)  # type: ignore[operator, union-attr]
    with pytest.raises(StateError, match="Folding '1' into '0' changed its output"):
        deploy(model)


def test_at_a_folded_norm_names_its_convolution() -> None:
    twin = deploy(build("cifar10_resnet20", num_classes=3))
    with pytest.raises(InputError, match=r"'bn1' is folded into 'conv1'.*at='conv1'.*deploy=False"):
        torchbcos.explain(twin, torch.rand(1, 6, 16, 16), 0, at="bn1")
    assert torchbcos.explain(twin, torch.rand(1, 6, 16, 16), 0, at="conv1").residual.abs().max() < 1e-4


@pytest.mark.parametrize("name", ["cifar10_resnet20", "simple_vit_ti_patch16_224", "bvt_tiny_patch16", "bwin_tiny"])
def test_no_layer_of_a_twin_divides_by_the_norm_of_its_filters(name: str) -> None:
    model = build(name, num_classes=3).double().eval()
    twin = deploy(model)
    layers = [m for m in twin.modules() if isinstance(m, FilterLayer)]
    assert layers
    assert not any(layer.unit_norm for layer in layers)
    assert any(layer.unit_norm for layer in model.modules() if isinstance(layer, FilterLayer))
    x = torch.rand(1, 6, 32, 32, dtype=torch.float64) if "cifar" in name else torch.rand(1, 6, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(twin(x), model(x).detach(), rtol=1e-9, atol=1e-9)


def test_a_converted_layer_takes_no_norm_in_as_its_bias_would_miss_the_factor() -> None:
    network = nn.Sequential(bnn.BcosifiedConv2d(2, 3, 3), bnn.BatchNorm(3, centered=False, bias=False)).eval()
    nn.init.normal_(network[0].bias)  # type: ignore[arg-type]
    nn.init.uniform_(network[1].running_var, 2, 3)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 5, 5)
    assert pairs.pairs_of(network) == [] and torch.allclose(deploy(network)(x), network(x), atol=1e-5)
