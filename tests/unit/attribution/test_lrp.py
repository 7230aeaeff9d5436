"""LRP: zennit as a black box, closed forms, conservation, a copy that is thrown away, and what is refused."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zennit import attribution, canonizers, composites
from zennit.torchvision import ResNetCanonizer

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, MissingPackageError, StateError
from torchbcos.attribution import Attribution, Lrp
from torchbcos.attribution.lrp import COMPOSITES

TARGETS = torch.tensor([[1, 0], [2, 2], [3, 1]])


def pictures(size: int = 16) -> Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def settled(net: nn.Module) -> nn.Module:
    """In float64 and eval mode, with norms that do something."""
    torch.manual_seed(1)
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm2d, bnn.BatchNorm)):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
            if m.weight is not None:
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.normal_(0, 0.1)
    return net.double().eval()


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return settled(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )
    )  # fmt: skip


def bare(seed: int = 0) -> nn.Module:
    """No biases, ReLU."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4, bias=False),
    ).double().eval()  # fmt: skip


def lrp(net: nn.Module, x: Tensor, targets: object = TARGETS, **settings: Any) -> Attribution:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return torchbcos.attribute(net, x, targets, method=Lrp(**settings))


def zennits(net: nn.Module, x: Tensor, name: str, target: Tensor, canonizer: canonizers.Canonizer) -> Tensor:
    """Plain zennit, on the network itself."""
    box = {"low": torch.zeros_like(x[:1]), "high": torch.ones_like(x[:1])} if "box" in name else {}
    composite = composites.COMPOSITES[name](canonizers=[canonizer], **box)
    with attribution.Gradient(net, composite) as attributor:
        found: Tensor = attributor(x.clone().requires_grad_(), lambda out: F.one_hot(target, out.shape[1]) * out.detach())[1]
    return found


@pytest.mark.parametrize("name", COMPOSITES[1:])
def test_zennit_gives_the_same(name: str) -> None:
    net, x = cnn(), pictures()
    a = lrp(net, x, composite=name)
    for k in range(2):
        expected = zennits(net, x, name, TARGETS[:, k], canonizers.SequentialMergeBatchNorm())
        assert a.values is not None and torch.allclose(a.values[:, k], expected, rtol=1e-10, atol=1e-14)
    assert torch.equal(a.maps, a.values.sum(2)) and a.passes == 4  # type: ignore[union-attr]


def test_zennit_gives_the_same_on_a_residual_network() -> None:
    """It has a canonizer for torchvision's blocks; here any `a += b` is a sum with its rule."""
    torch.manual_seed(0)
    net, x = settled(torchvision.models.resnet18(num_classes=4)), pictures(32)
    a = lrp(net, x)
    expected = zennits(net, x, "epsilon_plus_flat", TARGETS[:, 1], ResNetCanonizer())
    assert a.values is not None and torch.allclose(a.values[:, 1], expected, rtol=1e-10, atol=1e-14)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_without_biases_the_epsilon_rule_is_input_times_gradient(seed: int) -> None:
    net = bare(seed)
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    a = lrp(net, x, [[0, 1], [2, 3]], composite="epsilon", epsilon=1e-12)
    expected = torchbcos.attribute(net, x, [[0, 1], [2, 3]], method="input_x_gradient")
    assert torch.allclose(a.maps, expected.maps, atol=1e-6 * float(expected.maps.abs().max()))
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-5 * float(a.values.abs().sum())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["epsilon", "epsilon_plus", "epsilon_alpha2_beta1"])
def test_relevance_is_conserved_where_biases_take_none(name: str) -> None:
    """`delta` is what the biases took."""
    net, x = cnn(), pictures()
    kept, taken = lrp(net, x, composite=name, zero_bias=True).delta, lrp(net, x, composite=name).delta
    assert kept is not None and taken is not None  # the stabilisers take a little
    assert float(kept.abs().max()) < 1e-4 and float(kept.abs().max()) < 1e-3 * float(taken.abs().max())


class Residual(nn.Module):
    """A block with everything as functions, or as modules."""

    def __init__(self, functions: bool, add: str = "plus") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)
        self.relu, self.pool, self.mean = nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.functions, self.add = functions, add
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)) if self.functions else self.relu(self.first(x))
        y = self.second(x)
        if self.add == "plus":
            y = x + y
        elif self.add == "iadd":
            y += x
        elif self.add == "function":
            y = torch.add(x, y)
        elif self.add == "lost":
            y.add_(x)
        else:
            y = torch.sub(x, y)
        y = F.max_pool2d(F.relu(y), 2) if self.functions else self.pool(self.relu(y))
        out: Tensor = self.head(y.mean(dim=(2, 3)) if self.functions else self.mean(y).flatten(1))
        return out


@pytest.mark.parametrize("add", ["plus", "iadd", "function"])
@pytest.mark.parametrize("name", ["epsilon", "epsilon_plus_flat"])
def test_functions_are_as_modules(add: str, name: str) -> None:
    x = pictures()
    a, b = lrp(Residual(True, add), x, composite=name), lrp(Residual(False), x, composite=name)
    assert torch.allclose(a.maps, b.maps, atol=1e-12) and float(a.maps.abs().max()) > 1e-6


def test_without_the_rule_of_sums_relevance_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that the rule mends: without it the two branches of a sum get the whole relevance each."""
    x = pictures()
    right = lrp(Residual(False), x, composite="epsilon_plus", zero_bias=True)
    monkeypatch.setattr("torchbcos.attribution.lrp_network.Relevant._normed", lambda self, module, given: module(given))
    wrong = lrp(Residual(False), x, composite="epsilon_plus", zero_bias=True)
    assert right.delta is not None and wrong.delta is not None
    assert float(wrong.delta.abs().max()) > 100 * float(right.delta.abs().max())


@pytest.mark.parametrize("name", ["resnet18", "cifar10_resnet20", "densenet121"])
def test_our_plain_networks(name: str) -> None:
    net, x = settled(torchbcos.create_model(name, plain=True, num_classes=4)), pictures(32)[:1]
    a = lrp(net, x, 1, composite="epsilon_plus", zero_bias=True)
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-2 * float(a.values.abs().sum())  # type: ignore[union-attr]


class Twice(nn.Module):
    """A convolution that is used twice, or layers that run in another order than they stand in."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.a, self.norm, self.b = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, affine=how != "plain norm"), nn.Conv2d(3, 3, 3)
        self.head = nn.Linear(3, 4)
        settled(self)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "twice":
            y = self.b(self.norm(self.a(self.a(x))))
        elif self.how == "order":
            y = self.norm(self.b(self.a(x)))
        elif self.how == "first":
            y = self.a(self.b(x))
        else:
            y = self.b(self.norm(self.a(x)))
        out: Tensor = self.head(y.mean((2, 3)))
        return out


def test_a_norm_without_weights_is_merged_too() -> None:
    assert lrp(Twice("plain norm"), pictures()).maps.isfinite().all()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(bnn.BcosConv2d(3, 4, 3), bnn.GlobalAveragePool()), r"BcosConv2d '0'.*frozen scales: .*'inherent'"),
        (lambda: torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 16, num_classes=4), "no rule for attention, and"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), bnn.GlobalAveragePool()), r"group_norm in '1'"),
        (lambda: torchbcos.create_model("convnext_tiny", plain=True, num_classes=4), r"layer_norm in .*PositionNorm"),
        (lambda: torchvision.ops.SqueezeExcitation(3, 2), r"mul in its forward"),
        (lambda: Residual(True, "minus"), r"sub in its forward"),
        (lambda: Residual(True, "lost"), r"it adds in place by a.add_\(b\)"),
        (lambda: Twice("twice"), r"'a' \(Conv2d\), which runs more than once"),
        (lambda: Twice("order"), r"run in another order"),
        (lambda: Twice("first"), r"first layer to 'a', which is registered first, but 'b' runs first"),
        (lambda: torchvision.models.densenet121(num_classes=4), "do not fit together"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused(make: Any, why: str) -> None:
    net = make().double().eval()
    if isinstance(net, torchvision.ops.SqueezeExcitation):
        net = nn.Sequential(net, nn.Flatten(), nn.LazyLinear(4)).double().eval()
        net(pictures())
        why = "mul in '0'"
    if isinstance(net, torchvision.models.VisionTransformer):
        nn.init.normal_(net.heads.head.weight)
    with pytest.raises(StateError, match=why):
        torchbcos.attribute(net, pictures(32 if "fit" in why or "Position" in why else 16), 1, method="lrp")


def test_the_network_is_as_before() -> None:
    net, x = cnn(), pictures()
    before = {name: (t, t.clone(), t._version, t.requires_grad) for name, t in net.state_dict(keep_vars=True).items()}
    random = torch.get_rng_state()
    lrp(net, x)
    for name, t in net.state_dict(keep_vars=True).items():
        same, value, version, grad = before[name]
        assert t is same and torch.equal(t, value) and t._version == version and t.requires_grad == grad and t.grad is None
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"composite": "epsilon_pluss"}, "composite must be one of .*epsilon_gamma_box, not 'epsilon_pluss'.*epsilon_plus"),
        ({"composite": "epsilon_gamma_box", "low": 1.0, "high": 0.0}, "smallest and largest value of a pixel, not 1.0 and 0.0"),
        ({"composite": "epsilon_gamma_box", "low": None}, "smallest and largest value"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        lrp(cnn(), pictures(), **options)


def test_a_network_that_cannot_be_copied() -> None:
    net = cnn()
    net.generator = (i for i in range(3))
    with pytest.raises(
        StateError, match="LRP edits a copy of the network, and this one cannot be copied: cannot pickle 'generator'"
    ):
        lrp(net, pictures())


def test_without_zennit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "zennit"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"LRP needs the package 'zennit', which is not installed.*\[evaluate\]"):
        lrp(cnn(), pictures())
