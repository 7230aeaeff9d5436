"""Gradient methods: closed forms, Captum as a black box, any batch, any number of targets."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.attribution import GradientShap, InputXGradient, IntegratedGradients, Saliency, SmoothGrad


def plain() -> nn.Sequential:
    """A small ordinary network in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(net, nn.Linear(6, 4)).double().eval()


def bcos() -> nn.Sequential:
    """A small B-cos network without biases, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 4, 3), bnn.GlobalAveragePool()).double().eval()


def pictures(n: int = 3, channels: int = 3) -> Tensor:
    x = torch.rand(n, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if channels == 3 else torch.cat([x, 1 - x], 1)


def test_captum_gives_the_same() -> None:
    net, x, t = plain(), pictures(), torch.tensor([1, 0, 3])
    zero, leaf = torch.zeros_like(x), x.clone().requires_grad_()
    for ours, theirs in [
        (Saliency(net).attribute(x, t), captum.attr.Saliency(net).attribute(leaf, t)),
        (InputXGradient(net).attribute(x, t), captum.attr.InputXGradient(net).attribute(leaf, t)),
        (
            IntegratedGradients(steps=20)(net).attribute(x, t, baseline=zero),
            captum.attr.IntegratedGradients(net).attribute(leaf, zero, t, n_steps=20),
        ),
        (
            SmoothGrad(net, noise=0.0, copies=2).attribute(x, t),
            captum.attr.NoiseTunnel(captum.attr.Saliency(net)).attribute(leaf, nt_samples=2, stdevs=0.0, target=t, abs=False),
        ),
    ]:
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_a_linear_network_has_one_answer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 4)).double()
    x = pictures()[:, :, :3, :3]
    w = net[1].weight[2].reshape(1, 3, 3, 3)
    for baseline in ("grey", "mean", "blur", "black", 0.25):
        away = x - torchbcos.functional.replacement(x, baseline)
        for method in (IntegratedGradients(steps=1), IntegratedGradients(steps=7, rule="trapezoid"), GradientShap(points=3)):
            a = torchbcos.attribute(net, x, 2, method=method, baseline=baseline)
            assert a.values is not None and a.delta is not None
            assert torch.allclose(a.values[:, 0], w * away, atol=1e-12) and float(a.delta.abs().max()) < 1e-12


def test_four_baselines_are_one_map_on_a_network_without_biases() -> None:
    net, x = bcos(), pictures(channels=6)
    live = torchbcos.attribute(net, x, 1, method="input_x_gradient")
    path = torchbcos.attribute(net, x, 1, method="integrated_gradients", baseline="zero6", samples=8)
    e = torchbcos.explain(net, x, 1)
    assert torch.allclose(live.maps, path.maps, atol=1e-6)  # epsilon of the norm of a patch: degree 1 but for it
    assert torch.allclose(live.maps.flatten(2).sum(2), e.contributions.flatten(2).sum(2), atol=1e-5)
    assert float(torch.corrcoef(torch.stack([live.maps[0, 0].flatten(), e.contributions[0, 0].flatten()]))[0, 1]) < 0.9
    held = torchbcos.attribute(net, x, 1, method="input_x_gradient", scales="frozen")
    assert torch.allclose(held.maps, e.contributions, atol=1e-12)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad", "gradient_shap", "integrated_gradients", "inherent"])
@pytest.mark.parametrize("scales", ["live", "frozen"])
def test_one_image_or_many_one_target_or_many(method: str, scales: str) -> None:
    net, x = bcos(), pictures(channels=6)
    targets = torch.tensor([[0, 1, 3], [3, 2, 1], [0, 0, 2]])
    whole = torchbcos.attribute(net, x, targets, method=method, scales=scales, samples=3)
    for size in (1, 2, 16):
        again = torchbcos.attribute(net, x, targets, method=method, scales=scales, samples=3, batch_size=size)
        assert torch.allclose(again.maps, whole.maps, atol=1e-12)
    for i in range(3):
        for k in range(3):
            one = torchbcos.attribute(net, x[i : i + 1], int(targets[i, k]), method=method, scales=scales, samples=3)
            assert torch.allclose(one.maps[0, 0], whole.maps[i, k], atol=1e-12)


def test_the_colour_gradient_is_that_of_the_picture() -> None:
    net, x = bcos(), pictures(1, 6)[:, :, :4, :4].repeat(1, 1, 2, 2)
    found = torchbcos.attribute(net, x, 0, method=Saliency(reduce="sum"), scales="live").maps[0, 0]
    step = torch.zeros_like(x)
    step[0, :3, 2, 3], step[0, 3:, 2, 3] = 1e-6, -1e-6
    difference = (net(x + step) - net(x - step)).detach()[0, 0] / 2e-6
    assert abs(float(difference - found[2, 3])) < 1e-6
