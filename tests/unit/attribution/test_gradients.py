"""Gradient methods: closed forms, Captum as a black box, any batch, any number of targets."""

from __future__ import annotations

import math

import captum.attr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import attribution_gradients as slowly
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.attribution import (
    Attribution,
    Explainer,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)


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


# -- twins ---------------------------------------------------------------------------------------------------------------


def smooth_network(channels: int, seed: int) -> nn.Sequential:
    """Two classes, differentiable everywhere."""
    torch.manual_seed(seed)
    layer = bnn.BcosConv2d(channels, 4, 2) if channels == 6 else nn.Sequential(nn.Conv2d(channels, 4, 2), nn.Tanh())
    return nn.Sequential(layer, nn.Conv2d(4, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(6, 2)).double().eval()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([3, 6]), seed=st.integers(0, 99), reduce=st.sampled_from(["max", "l2", "sum"]),
    baseline=st.sampled_from(["grey", "mean", "black"]), sigma=st.floats(0.01, 0.3),
)  # fmt: skip
def test_twins_without_autograd(channels: int, seed: int, reduce: str, baseline: str, sigma: float) -> None:
    net = smooth_network(channels, seed)
    x = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.8 + 0.1
    x = torch.cat([x, 1 - x], 1) if channels == 6 else x
    base = torchbcos.functional.replacement(x, baseline)[0]
    drawn = torch.Generator().manual_seed(seed)

    def score(image: Tensor) -> float:
        with torch.no_grad():
            return float(net(image[None])[0, 1])

    def run(method: Explainer) -> Attribution:
        return torchbcos.attribute(
            net, x, 1, method=method, baseline=baseline, generator=torch.Generator().manual_seed(seed)
        )  # fmt: skip

    found, slow = run(Saliency(absolute=False, reduce=reduce)), slowly.difference(score, x[0])
    assert found.values is not None and torch.allclose(found.values[0, 0], slow, atol=1e-7)
    assert torch.allclose(found.maps[0, 0], slowly.reduce_colours(slow, channels == 6, reduce), atol=1e-7)
    assert torch.allclose(run(InputXGradient()).maps[0, 0], (slow * x[0]).sum(0), atol=1e-7)
    found = run(IntegratedGradients(steps=4, rule="midpoint"))
    assert found.values is not None and torch.allclose(found.values[0, 0], slowly.integrated(score, x[0], base, 4), atol=1e-7)
    noise = [torch.randn(x.shape[1:], generator=drawn).double() for _ in range(2)]
    found = run(SmoothGrad(copies=2, noise=sigma))
    assert found.values is not None and torch.allclose(found.values[0, 0], slowly.smoothed(score, x[0], noise, sigma), atol=1e-7)
    drawn.manual_seed(seed)
    places = torch.rand(2, generator=drawn).tolist()
    noise = [torch.randn(x.shape[1:], generator=drawn).double() * sigma for _ in range(2)]
    found = run(GradientShap(points=2, noise=sigma))
    slow = slowly.expected_gradients(score, x[0], base, places, noise)
    assert found.values is not None and torch.allclose(found.values[0, 0], slow, atol=1e-7)


def test_a_wrong_method_is_seen_by_its_twin() -> None:
    net, x = smooth_network(6, 0), torch.full((1, 3, 4, 3), 0.3, dtype=torch.float64)
    x = torch.cat([x, 1 - x], 1)
    slow = slowly.difference(lambda image: float(net(image[None]).detach()[0, 1]), x[0])
    found = Saliency(net, absolute=False).attribute(x, 1)[0]
    assert torch.allclose(found, slow, atol=1e-7)
    assert not torch.allclose(found.sum(0), slowly.reduce_colours(slow, True, "sum"), atol=1e-3)  # six summed: another direction


# -- what a caller may ask --------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_one_sentence() -> None:
    net, x = plain(), pictures()
    for error, words, options in [
        (InputError, "Unknown method 'integrated'.*integrated_gradients", {"method": "integrated"}),
        (ArgumentTypeError, "method is a name or a method", {"method": 3}),
        (InputError, "scales must be", {"method": "saliency", "scales": "dead"}),
        (InputError, "samples must be a positive integer", {"method": "smooth_grad", "samples": 0}),
        (InputError, "batch_size must be a positive integer", {"method": "saliency", "batch_size": -1}),
        (ArgumentTypeError, "generator must be", {"method": "smooth_grad", "generator": 3}),
        (InputError, "Unknown replacement 'gray'", {"method": "integrated_gradients", "baseline": "gray"}),
        (InputError, "does not fit pictures", {"method": "integrated_gradients", "baseline": torch.zeros(7)}),
        (InputError, "rule must be", {"method": IntegratedGradients(rule="simpson")}),
        (InputError, "steps must be a positive integer", {"method": IntegratedGradients(steps=0)}),
        (InputError, "reduce must be one of", {"method": Saliency(reduce="mean")}),
        (InputError, "noise must be a number", {"method": SmoothGrad(noise=-1.0)}),
        (InputError, "from 0 to 3", {"method": "saliency", "targets": 4}),
    ]:
        with pytest.raises(error, match=words):
            torchbcos.attribute(net, x, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NaN or infinite"):
        torchbcos.attribute(net, x * math.nan, method="saliency")
    with pytest.raises(StateError, match="'0' is in training mode"):
        torchbcos.attribute(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()), x, method="saliency")
    with torchbcos.frozen(), pytest.raises(StateError, match=r"inside torchbcos\.frozen"):
        torchbcos.attribute(net, x, method="saliency")
    with pytest.raises(StateError, match="has no network yet"):
        Saliency().attribute(x)
    with pytest.raises(ArgumentTypeError, match="not a function"):
        torchbcos.attribute(lambda x: x.flatten(1), x, method="inherent")
    with pytest.raises(StateError, match="no gradient"):
        torchbcos.attribute(lambda x: x.detach().flatten(1), x, method="saliency")
    assert torchbcos.attribute(lambda x: net(x), x, 1, method="saliency").maps.shape == (3, 1, 9, 11)


def test_under_no_grad_and_in_inference_mode() -> None:
    net, x = plain(), pictures()
    usual = torchbcos.attribute(net, x, 1, method="integrated_gradients").maps
    with torch.no_grad():
        assert torch.equal(torchbcos.attribute(net, x, 1, method="integrated_gradients").maps, usual)
    with torch.inference_mode():
        assert torch.equal(torchbcos.attribute(net, x.clone(), 1, method="integrated_gradients").maps, usual)


def test_passes_are_those_that_the_network_sees() -> None:
    net, x = plain(), pictures()
    seen: list[int] = []
    net.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    for method, forwards in [("saliency", 1), ("input_x_gradient", 1), ("integrated_gradients", 7), ("smooth_grad", 6)]:
        for targets in (torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 4, dtype=torch.long)):
            seen.clear()
            a = torchbcos.attribute(net, x, targets, method=method, samples=5)
            assert sum(seen) == 3 * forwards
            runs = 1 if forwards == 1 else 5
            assert a.passes == forwards + runs * targets.shape[1]
