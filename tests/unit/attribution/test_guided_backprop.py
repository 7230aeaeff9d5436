"""Guided Backprop: Captum where every ReLU is a module, the plain gradient where there is none, and every spelling of ReLU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import ExplanationWarning, StateError
from torchbcos.attribution import GuidedBackprop, Saliency

TARGETS = torch.tensor([[1, 0], [2, 2], [3, 1]])


class Net(nn.Module):
    """Two layers with any activation between them."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.activation = activation
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.first(x))
        out: Tensor = self.head(self.activation(self.second(x)).mean((2, 3)))
        return out


def pictures() -> Tensor:
    return torch.rand(3, 3, 8, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def quietly(model: nn.Module, x: Tensor, targets: object = TARGETS, method: object = "guided_backprop") -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = torchbcos.attribute(model, x, targets, method=method)  # type: ignore[arg-type]
    assert a.values is not None
    return a.values


def test_captum_gives_the_same_on_modules() -> None:
    net, x = Net(nn.ReLU()), pictures()
    ours = quietly(net, x)
    with pytest.warns(UserWarning, match="backward hooks"):
        theirs = captum.attr.GuidedBackprop(net).attribute(x.clone().requires_grad_(), TARGETS[:, 1])
    assert torch.equal(ours[:, 1], theirs)
    assert not torch.allclose(ours, quietly(net, x, method=Saliency(absolute=False)))  # the two differ at all


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu, "torch.relu": torch.relu, "Tensor.relu": lambda x: x.relu(), "relu_": lambda x: x.clone().relu_(),
    "torch.relu_": lambda x: torch.relu_(x.clone()), "inplace": lambda x: F.relu(x.clone(), inplace=True),
    "module in place": nn.ReLU(inplace=True), "ours": bnn.ReLU(), "function of ours": torchbcos.functional.relu,
    "aten": torch.ops.aten.relu.default,
    "relu6": F.relu6, "ReLU6": nn.ReLU6(), "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
}  # fmt: skip


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_of_relu_is_guided(spelling: str) -> None:
    """Captum sees modules only: with F.relu it gives the plain gradient without a word."""
    x = pictures()
    assert torch.equal(quietly(Net(SPELLINGS[spelling]), x), quietly(Net(nn.ReLU()), x))


def test_a_clamp_is_no_activation() -> None:
    net, x = Net(lambda x: x.clamp(min=0)), pictures()
    with pytest.warns(ExplanationWarning, match="no ReLU in this network: this is the plain gradient"):
        a = torchbcos.attribute(net, x, TARGETS, method="guided_backprop")
    assert a.values is not None and torch.equal(a.values, quietly(net, x, method=Saliency(absolute=False)))


def bcos() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 4, 3), bnn.GlobalAveragePool()).eval()


@pytest.mark.parametrize(
    ("make", "found"),
    [(bcos, r"\(it has BcosConv2d '0', BcosConv2d '1'\)"), (lambda: Net(nn.GELU()), r"\(it has gelu in 'activation'\)")],
)
def test_without_relu_it_is_the_signed_gradient_and_says_so(make: Callable[[], nn.Module], found: str) -> None:
    net, x = make(), pictures()
    x = torch.cat([x, 1 - x], 1).float() if isinstance(net, nn.Sequential) else x
    with pytest.warns(ExplanationWarning, match=rf"no ReLU in this network {found}: this is the plain gradient"):
        a = torchbcos.attribute(net, x, TARGETS, method="guided_backprop")
    assert a.values is not None and torch.equal(a.values, quietly(net, x, method=Saliency(absolute=False)))
    assert torch.equal(a.maps, torchbcos.attribute(net, x, TARGETS, method="saliency").maps)


def test_a_mixed_network_is_told_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(4)).eval()
    net(pictures().float())
    with pytest.warns(ExplanationWarning, match=r"rule for ReLU alone, and this network has silu in '3' beside its 1"):
        torchbcos.attribute(net, pictures().float(), 0, method="guided_backprop")


def test_our_plain_networks_are_guided() -> None:
    net = torchbcos.create_model("cifar10_resnet20", plain=True).eval()
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(quietly(net, x, 1), quietly(net, x, 1, Saliency(absolute=False)))


def test_a_function_is_guided_as_a_module_is() -> None:
    net, x = Net(F.relu), pictures()
    assert torch.equal(torchbcos.attribute(lambda t: net(t), x, 1, method="guided_backprop").values, quietly(net, x, 1))  # type: ignore[arg-type]


def test_targets_share_the_forward_pass() -> None:
    net, x, calls = Net(F.relu), pictures(), [0]
    net.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    a = torchbcos.attribute(net, x, [[0, 1, 2, 3]] * 3, method="guided_backprop")
    assert calls == [1] and a.passes == 5


def test_maps_are_reduced_as_asked() -> None:
    net, x = Net(F.relu), pictures()
    for how, expected in (("max", lambda v: v.abs().amax(2)), ("l2", lambda v: v.norm(dim=2)), ("sum", lambda v: v.sum(2))):
        a = torchbcos.attribute(net, x, TARGETS, method=GuidedBackprop(reduce=how))
        assert torch.allclose(a.maps, expected(a.values), atol=1e-12)


def test_scripts_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inner = torch.jit.trace(nn.ReLU(), torch.rand(1, 3, 4, 4))
    net = nn.Sequential(inner, nn.Flatten(), nn.Linear(48, 2)).eval()
    with pytest.raises(StateError, match=r"nobody sees those of '0', which is scripted or traced code"):
        torchbcos.attribute(net, torch.rand(1, 3, 4, 4), 0, method="guided_backprop")
