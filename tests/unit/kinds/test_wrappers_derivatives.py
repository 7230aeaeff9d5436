"""Derivatives of W, inner layers, contrasts and recorded graphs: the same for ordinary networks as for B-cos ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from tests.unit.kinds.wrapped import network, pictures, pooled, seeded, written
from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation.layer import contribution_maps

PLAIN = seeded(network)


class Attends(nn.Module):
    """Convolution, batch norm, GELU, squeeze and excitation, self-attention with a layer norm, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.excite = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.before, self.attend, self.head = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm(self.conv(x)))
        y = y * self.excite(y.mean((2, 3))).sigmoid()[:, :, None, None]
        t = y.flatten(2).transpose(1, 2)
        z = self.before(t)
        out: Tensor = self.head((t + self.attend(z, z, z, need_weights=False)[0]).mean(1))
        return out


class Gated(nn.Module):
    """SiLU, group norm, a gated linear unit, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.wide, self.head = (
            nn.Conv2d(3, 4, 3, 2, 1),
            nn.GroupNorm(2, 4),
            nn.Conv2d(4, 8, 1),
            nn.Linear(4, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.wide(F.silu(self.norm(self.conv(x)))).chunk(2, 1)
        out: Tensor = self.head(F.max_pool2d(F.gelu(a) * b, 2).mean((2, 3)))
        return out


SMOOTH: dict[str, Callable[[], nn.Module]] = {"attention": Attends, "gates": Gated}


def central(score: Callable[[], float], t: Tensor, places: list[int]) -> list[float]:
    """Central differences of a number with respect to some entries of a tensor."""
    found, step = [], 1e-5
    flat = t.detach().view(-1)
    for i in places:
        kept = float(flat[i])
        sides = []
        for sign in (1, -1):
            flat[i] = kept + sign * step
            sides.append(score())
        flat[i] = kept
        found.append((sides[0] - sides[1]) / (2 * step))
    return found


@pytest.mark.parametrize("name", SMOOTH)
def test_the_full_derivative_of_w_is_that_of_central_differences(name: str) -> None:
    net, x = seeded(SMOOTH[name]), pictures(1).requires_grad_()
    mix = torch.randn(1, 1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    e = torchbcos.explain(net, x, 1, create_graph=True)
    plain = torchbcos.explain(net, x.detach(), 1)
    torch.testing.assert_close(e.weights.detach(), plain.weights)
    weight = net.conv.weight
    found = torch.autograd.grad((e.weights * mix).sum(), [x, weight])

    def score() -> float:
        return float((torchbcos.explain(net, x.detach(), 1).weights * mix).sum())

    for g, t in zip(found, (x, weight), strict=True):
        places = [0, 17, 40, t.numel() - 1]
        expected = torch.tensor(central(score, t, places), dtype=torch.float64)
        scale = float(g.abs().max())
        assert scale > 1e-6
        torch.testing.assert_close(g.flatten()[places], expected, rtol=0, atol=2e-6 * max(scale, 1.0))


@pytest.mark.parametrize("name", SMOOTH)
def test_truncated_derivatives_hold_the_factors(name: str) -> None:
    net, x = seeded(SMOOTH[name]), pictures(1).requires_grad_()
    e = torchbcos.explain(net, x, 1, create_graph="truncated")
    by_input, by_weight = torch.autograd.grad(e.weights.square().sum(), [x, net.conv.weight], allow_unused=True)
    assert by_input is None or not bool(by_input.any())  # W is linear once its factors are held
    assert by_weight is not None and bool(by_weight.any())
    (of_values,) = torch.autograd.grad(torchbcos.explain(net, x, 1, create_graph="truncated").values.sum(), x)
    torch.testing.assert_close(of_values, torchbcos.explain(net, x.detach(), 1).weights[:, 0])


# -- inner layers ------------------------------------------------------------------------------------------------------


def _inner(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of the norm and those after it."""
    y = net[1](net[0](x))
    return y, net[3](F.gelu(y))


def test_channels_of_an_inner_layer_at_a_position() -> None:
    x = pictures()
    leaf = x.clone().requires_grad_()
    norm, second = _inner(PLAIN, leaf)
    gate = (0.5 * (1 + torch.erf(norm / 2**0.5))).detach()
    held = PLAIN[3](norm * gate)
    for at, feature, value in (("1", norm, norm), ("3", held, second)):
        e = torchbcos.explain(PLAIN, x, 2, at=at, position=(3, 4))
        (w,) = torch.autograd.grad(feature[:, 2, 3, 4].sum(), leaf, retain_graph=True)
        torch.testing.assert_close(e.weights[:, 0], w, rtol=0, atol=1e-12)
        torch.testing.assert_close(e.values[:, 0], value[:, 2, 3, 4].detach())
        assert float(e.residual.abs().max()) < 1e-12
        summed = torchbcos.explain(PLAIN, x, 2, at=at, contrast=0)
        torch.testing.assert_close(summed.values[:, 0], (value[:, 2] - value[:, 0]).sum((1, 2)).detach())
        assert float(summed.residual.abs().max()) < 1e-12
    with pytest.raises(InputError, match="has no module"):
        torchbcos.explain(PLAIN, x, at="missing")


@pytest.mark.parametrize("inplace", [False, True])
def test_an_inner_layer_is_seen_before_an_activation_edits_it(inplace: bool) -> None:
    net = nn.Sequential(PLAIN[0], PLAIN[1], nn.ReLU(inplace), *PLAIN[5:])
    x = pictures()
    values = torchbcos.explain(net, x, 2, at="1").values
    torch.testing.assert_close(values[:, 0], PLAIN[1](PLAIN[0](x))[:, 2].sum((1, 2)).detach())
    feature = PLAIN[1](PLAIN[0](x)).detach()
    (w,) = torch.autograd.grad(PLAIN[7](feature.requires_grad_().relu().mean((2, 3)))[:, 1].sum(), feature)
    maps = contribution_maps(net, x, torch.tensor([1, 1]), wrt="1")
    torch.testing.assert_close(maps, (w * feature).sum(1).detach(), rtol=0, atol=1e-12)


def test_a_contrast_is_a_difference() -> None:
    x = pictures()
    one, two, both = (torchbcos.explain(PLAIN, x, t, contrast=c) for t, c in ((1, None), (3, None), (1, 3)))
    torch.testing.assert_close(both.weights, one.weights - two.weights)
    torch.testing.assert_close(both.values, one.values - two.values)


# -- recorded graphs ---------------------------------------------------------------------------------------------------


@pytest.mark.newest
@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("name", ["network", "attention"])
def test_graphs_give_what_explain_gives_for_any_batch(name: str, portable: bool) -> None:
    net = seeded(network if name == "network" else Attends).float()
    graph = torchbcos.explanation_graph(net, pictures(1).float(), portable=portable)
    for n in (1, 3):
        x = pictures(n, seed=n).float()
        if graph.batch is not None and n != graph.batch:
            continue
        with torch.no_grad():
            outputs, targets, weights, _, constants = graph(x)
        e = torchbcos.explain(net, x, targets)
        torch.testing.assert_close(outputs, e.outputs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights, e.weights, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(constants, torch.stack(list(e.constants.values()), -1), rtol=1e-3, atol=1e-5)
        assert graph.constants == tuple(e.constants)


@pytest.mark.newest
def test_networks_that_cannot_be_explained_are_not_recorded() -> None:
    with pytest.raises(StateError, match="two signals"):
        torchbcos.explanation_graph(written(lambda s, x: pooled(s, s.conv(x) ** 2)), pictures(1))


@pytest.mark.newest
def test_exports_of_ordinary_networks_explain(tmp_path: Path) -> None:
    net, x = seeded(network).float(), pictures(1).float()
    torch.export.save(torch.export.export(torchbcos.explanation_graph(net, x), (x,)), tmp_path / "net.pt2")
    found = torch.export.load(tmp_path / "net.pt2").module()(x)
    e = torchbcos.explain(net, x)
    torch.testing.assert_close(found[2], e.weights, rtol=1e-3, atol=1e-5)
