"""DeepLIFT: Captum as a black box, closed forms, what has no rule is named, and nothing of Captum is left behind."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import ExplanationWarning, MissingPackageError, StateError
from torchbcos.attribution import Attribution, DeepLift, deep_lift

TARGETS = torch.tensor([[1, 0], [2, 2], [3, 1]])


def pictures(n: int = 3, channels: int = 3) -> Tensor:
    x = torch.rand(n, 3, 12, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if channels == 3 else torch.cat([x, 1 - x], 1)


def cnn(act: type[nn.Module] = nn.ReLU, pool: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), act(), pool or nn.AvgPool2d(2), nn.Conv2d(6, 6, 3), act(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    return net.double().eval()


def bcos() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 4, 3), bnn.GlobalAveragePool()).double().eval()


def quietly(model: nn.Module, x: Tensor, targets: object = TARGETS, **options: Any) -> Attribution:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return torchbcos.attribute(model, x, targets, method="deep_lift", **options)


def captums(net: nn.Module, x: Tensor, base: Tensor, target: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = captum.attr.DeepLift(net).attribute(x.clone().requires_grad_(), base, target)
    return found


@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus])
def test_captum_gives_the_same(act: type[nn.Module]) -> None:
    net, x = cnn(act), pictures()
    a = quietly(net, x, baseline="black")
    assert a.values is not None and a.delta is not None and float(a.delta.abs().max()) < 1e-12
    for k in range(2):
        assert torch.allclose(a.values[:, k], captums(net, x, torch.zeros_like(x), TARGETS[:, k]), atol=1e-14)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from(["grey", "mean", "blur", "black", "white", 0.3]))
def test_values_sum_to_the_difference_on_networks_with_rules(seed: int, baseline: str | float) -> None:
    """ReLU straight into MaxPool, too, where Captum alone gives ReLU the plain gradient."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4, 4),
    ).double().eval()  # fmt: skip
    a = quietly(net, torch.rand(2, 3, 10, 10, dtype=torch.float64), [[0, 1], [2, 3]], baseline=baseline)
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-11


def test_captum_alone_misses_the_sum_of_relu_and_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why modules get inputs of their own; shown by taking this away."""
    net, x = cnn(pool=nn.MaxPool2d(2)), pictures()
    assert float(quietly(net, x).delta.abs().max()) < 1e-12  # type: ignore[union-attr]
    monkeypatch.setattr(deep_lift, "_copied", lambda module, given: given)
    with pytest.warns(ExplanationWarning, match=r"Captum's rule for max_pool2d in '3' \(MaxPool2d\) is not exact"):
        torchbcos.attribute(net, x, TARGETS, method="deep_lift")


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.Softmax(1)])
def test_a_batch_does_not_matter(pool: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captum's rules of MaxPool and Softmax look at the other images; shown by taking away what keeps them apart."""
    net, x = nn.Sequential(*list(cnn(pool=pool))[2:4], nn.Flatten(), nn.LazyLinear(4)).double().eval(), pictures()
    net(x)
    x[1, :, :6] = 0.5  # as the baseline, where the rule takes the gradient of the first image

    def values(batch: int | None = None) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplanationWarning)
            found = [torchbcos.attribute(net, part, 1, method="deep_lift").values for part in x.split(batch or len(x))]
        return torch.cat([v for v in found if v is not None])

    assert torch.equal(values(), values(1))
    monkeypatch.setattr(deep_lift, "_POOLS", ())
    monkeypatch.setattr(deep_lift.nn, "Softmax", nn.Identity)
    assert isinstance(pool, nn.MaxPool2d) or not torch.equal(values(), values(1))


@pytest.mark.parametrize("baseline", ["zero6", "grey", "black"])
def test_a_bcos_network_has_a_right_baseline_and_wrong_ones(baseline: str) -> None:
    net, x = bcos(), pictures(channels=6)
    if baseline == "zero6":
        a = quietly(net, x, baseline=baseline)
        assert torch.allclose(a.maps, torchbcos.attribute(net, x, TARGETS, method="input_x_gradient").maps, atol=1e-12)
        return
    with pytest.warns(
        ExplanationWarning, match=r"no rule for the \|cos\| of BcosConv2d '0', the \|cos\| of BcosConv2d '1'; there"
    ):
        a = torchbcos.attribute(net, x, TARGETS, method="deep_lift", baseline=baseline)
    assert a.delta is not None and float(a.delta.abs().max()) > 1e-4


class Functional(nn.Module):
    """A network whose step between two convolutions is a function."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.step = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), step
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.step(self.first(x))).mean((2, 3))
        return out


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (F.relu, "relu"),
        (nn.GELU(), "gelu in 'step' (GELU)"),
        (lambda y: y * y, "mul"),
        (lambda y: y * y.sigmoid(), "sigmoid, mul"),
        (lambda y: y / (1 + y.square().mean((2, 3), keepdim=True)), "square, div"),
        (lambda y: y.flatten(2).transpose(1, 2).softmax(-1).transpose(1, 2).unflatten(2, (10, 11)), "softmax"),
        (lambda y: F.layer_norm(y, y.shape[1:]), "layer_norm"),
        (lambda y: y.abs(), "abs"),
    ],
)
def test_what_has_no_rule_is_named(step: Any, named: str) -> None:
    with pytest.warns(ExplanationWarning) as said:
        torchbcos.attribute(Functional(step), pictures(), TARGETS, method="deep_lift", baseline="white")
    text = str(said[0].message)
    assert len(said) == 1 and f"Captum has no rule for {named}; there the gradient is the plain one." in text and len(text) < 500


@pytest.mark.parametrize(
    "step", [lambda y: 2 * y + 1, lambda y: y.flip(-1), lambda y: F.interpolate(y, scale_factor=2.0), nn.ReLU()]
)
def test_what_needs_no_rule_is_not_named(step: Any) -> None:
    a = quietly(Functional(step), pictures(), baseline="white")
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-12


def test_our_plain_network_has_rules_and_stays_as_it_is() -> None:
    net = nn.Sequential(*(bnn.ReLU() if isinstance(m, nn.ReLU) else m for m in cnn())).eval()
    a, b = quietly(net, pictures()), quietly(cnn(), pictures())
    assert torch.equal(a.maps, b.maps) and type(net[2]) is bnn.ReLU


def test_an_error_in_the_middle_leaves_nothing() -> None:
    class Boom(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 2:  # x and its baseline: Captum's pass
                raise ZeroDivisionError("planted")
            return x

    net, x = nn.Sequential(cnn(pool=nn.MaxPool2d(2)), Boom()).eval(), pictures(1)
    relu = net[0][2]
    relu.input = "the user's own"
    before = [dict(vars(m)) for m in net.modules()]
    with pytest.raises(ZeroDivisionError, match="planted"):
        torchbcos.attribute(net, x, 1, method="deep_lift")
    after = [dict(vars(m)) for m in net.modules()]
    assert [list(v) for v in before] == [list(v) for v in after] and relu.input == "the user's own"
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules())
    assert not x.requires_grad and all(p.requires_grad and p.grad is None for p in net.parameters())


def test_nothing_moves() -> None:
    net, x = cnn(), pictures()
    random, filters = torch.get_rng_state(), list(warnings.filters)
    with torch.no_grad():
        torchbcos.attribute(net, x, TARGETS, method="deep_lift")
    assert torch.equal(torch.get_rng_state(), random) and list(warnings.filters) == filters


def test_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "captum"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"DeepLIFT needs the package 'captum', which is not installed.*\[evaluate\]"):
        torchbcos.attribute(cnn(), pictures(), 1, method="deep_lift")


def test_captums_call() -> None:
    net, x = cnn(), pictures()
    assert torch.allclose(
        DeepLift(net).attribute(x, TARGETS[:, 0], baseline="black"), captums(net, x, torch.zeros_like(x), TARGETS[:, 0])
    )  # fmt: skip


class Again(nn.Module):
    """One ReLU for three places; `hidden`: it is called where nobody can exchange it."""

    def __init__(self, hidden: bool = False, apart: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 3)
        self.act = nn.ReLU()
        self.others = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.ReLU()]) if apart else None
        self.hidden = [self.act] if hidden else []
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = self.others or (*self.hidden, *self.hidden, *self.hidden) or (self.act, self.act, self.act)
        x = one(self.a(x))
        out: Tensor = self.c(two(self.b(x)) + x)
        return three(out).mean((2, 3))


def test_a_module_used_several_times_has_its_rule_every_time() -> None:
    """As in torchvision's residual blocks, and ours; Captum refuses them."""
    net, x = Again(), pictures()
    with pytest.raises(RuntimeError, match="more than once"):
        captums(net, x, torch.zeros_like(x), TARGETS[:, 0])
    a, b = quietly(net, x), quietly(Again(apart=True), x)
    assert torch.equal(a.maps, b.maps) and type(net.act) is nn.ReLU
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-12
    for act in (nn.ReLU, bnn.ReLU):
        net.act = act()
        assert torch.equal(quietly(net, x).maps, a.maps)


def test_a_module_used_several_times_that_cannot_be_exchanged() -> None:
    """It is said, never passed over: by the sum that is missed, or before, where the network cannot be copied."""
    with pytest.warns(ExplanationWarning, match="Captum has no rule for relu; there the gradient is the plain one"):
        torchbcos.attribute(Again(hidden=True), pictures(), TARGETS, method="deep_lift")
    net = Again()
    net.generator = (i for i in range(3))
    with pytest.raises(StateError, match=r"ReLU 'act' runs more than once.*Give each place its own module"):
        torchbcos.attribute(net, pictures(), 1, method="deep_lift")


def test_other_threads_may_use_the_network_meanwhile() -> None:
    """What Captum hangs on modules stands on a copy that shares all weights."""
    net, x = cnn(), pictures()
    seen: list[bool] = []

    def look(_module: nn.Module, _args: object, _output: object) -> None:
        seen.append(any(m._forward_pre_hooks or m._backward_hooks for m in net.modules()) or len(net[2]._forward_hooks) > 1)

    with net[2].register_forward_hook(look):
        quietly(net, x, baseline="black")
    assert seen and not any(seen)


def test_old_weight_norm_is_copied_with_its_hook() -> None:
    net, x = cnn(), pictures()
    expected = quietly(net, x).maps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        torch.nn.utils.weight_norm(net[4])
    net(x.requires_grad_())  # leaves a weight with a history
    assert torch.allclose(quietly(net, x.detach()).maps, expected)


def test_mixed_precision_is_refused() -> None:
    with torch.autocast("cpu"), pytest.raises(StateError, match="mixed precision"):
        torchbcos.attribute(cnn().float(), pictures().float(), 1, method="deep_lift")
