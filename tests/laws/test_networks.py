"""Whole networks of every family against their slow twins, which know neither autograd nor our code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import networks as slow
from torchbcos.models import convnext, densenet, resnet, swin, vgg, vit
from torchbcos.models.blocks import Style

TOKENS = Style(norm="layer", norm_centered=True)
Make = Callable[..., nn.Module]


def sizes_of_resnet(bottleneck: bool, small: bool, groups: int = 1) -> resnet.ResNetSizes:
    return resnet.ResNetSizes(
        depths=(1, 2), widths=(4, 8), stem=4, small=small, expansion=4 if bottleneck else 1, groups=groups,
        group_width=64 if groups == 1 else 32,
    )  # fmt: skip


# name -> builder, sizes, style, options, twin, side of the picture
FAMILIES: dict[str, tuple[Make, Any, Style, dict[str, Any], slow.Network, int]] = {
    "resnet": (resnet.build, sizes_of_resnet(False, False), Style(), {}, slow.resnet((1, 2), bottleneck=False), 14),
    "resnet small": (
        resnet.build, sizes_of_resnet(False, True), Style(), {}, slow.resnet((1, 2), bottleneck=False, small=True), 7,
    ),
    "resnet antialias": (
        resnet.build, sizes_of_resnet(False, False), Style(antialias=True), {},
        slow.resnet((1, 2), bottleneck=False, antialias=True), 12,
    ),
    "resnext": (
        resnet.build, sizes_of_resnet(True, True, 2), Style(), {},
        slow.resnet((1, 2), bottleneck=True, groups=2, small=True), 6,
    ),
    "densenet": (
        densenet.build, densenet.DenseNetSizes(depths=(2, 1), growth=4, stem=8), Style(), {}, slow.densenet((2, 1)), 14,
    ),
    "vgg": (vgg.build, vgg.VGGSizes(depths=(1, 2), widths=(4, 6), hidden=8), Style(), {}, slow.vgg((1, 2)), 10),
    "convnext": (
        convnext.build, convnext.ConvNeXtSizes(depths=(1, 1), widths=(6, 8)), convnext.POSITION_STYLE,
        {"layer_scale": 0.5}, slow.convnext((1, 1), position_norm=True), 12,
    ),
    "convnext bnu": (
        convnext.build, convnext.ConvNeXtSizes(depths=(1, 1), widths=(6, 8)), Style(), {"layer_scale": 0.5},
        slow.convnext((1, 1), position_norm=False), 12,
    ),
    "vit": (
        vit.build, vit.ViTSizes(dim=16, heads=2, mlp=24, depth=2, patch=4, head_dim=8), TOKENS, {},
        slow.vision_transformer(2, 2, patch=4), 12,
    ),
    "vitc": (
        vit.build, vit.ViTSizes(dim=16, heads=2, mlp=24, depth=1, patch=1, stem=(8, 12, 12), head_dim=8), TOKENS, {},
        slow.vision_transformer(1, 2, patch=1, stem=3), 12,
    ),
    "bvt": (
        vit.build_aligned, vit.ViTSizes(dim=16, heads=2, mlp=24, depth=2, patch=4, head_dim=8), TOKENS, {},
        slow.vision_transformer(2, 2, patch=4, qkv="bcos"), 12,
    ),
    "bwin": (  # patches, windows and merging are all filled up, and windows are shifted
        swin.build, swin.SwinSizes(dim=8, depths=(2, 1), heads=(2, 2), patch=2, window=2, mlp=2), TOKENS, {},
        slow.swin((2, 1), (2, 2), patch=2, window=2), 9,
    ),
    "bwin linear": (
        swin.build, swin.SwinSizes(dim=8, depths=(2, 2), heads=(1, 2), patch=2, window=3, mlp=2), TOKENS, {"qkv": "linear"},
        slow.swin((2, 2), (1, 2), patch=2, window=3, qkv="linear"), 13,
    ),
}  # fmt: skip
BIAS = -1.25


def make(family: str, seed: int, b: float, max_out: int) -> nn.Module:
    """A small network with drawn weights, factors of both signs and calibrated statistics."""
    build, sizes, style, options, _, side = FAMILIES[family]
    torch.manual_seed(seed)
    style = Style(**{**vars(style), "b": b, "max_out": max_out})
    model = build(sizes, style, num_classes=3, logit_bias=BIAS, **options).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.normal_(1.0, 0.5)
            elif not name.endswith("layer_scale"):
                p.normal_()
    torchbcos.recalibrate(model, [torch.rand(8, 6, side, side, dtype=torch.float64)])
    return model.eval()


def twin_of(family: str, model: nn.Module, b: float, max_out: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, W and constants by the slow twin."""
    eps = FAMILIES[family][2].norm_eps
    dual = slow.Dual(dict(model.state_dict()), b=b, max_out=max_out, norm_eps=eps)
    return slow.explain(FAMILIES[family][4], dual, x, BIAS)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), b=st.sampled_from([2.0, 2.0, 1.0, 1.5, 2.5]), max_out=st.sampled_from([1, 1, 2]))
def test_networks_are_their_slow_twins(family: str, seed: int, b: float, max_out: int) -> None:
    model, side = make(family, seed, b, max_out), FAMILIES[family][5]
    x = torch.rand(1, 6, side, side, dtype=torch.float64)
    logits, weights, constants = twin_of(family, model, b, max_out, x)
    for network in (model, torchbcos.deploy(model)):
        e = torchbcos.explain(network, x, [[0, 1, 2]])
        torch.testing.assert_close(e.outputs[0], logits, rtol=1e-9, atol=1e-9)
        assert (e.weights[0] - weights).abs().max() <= 1e-9 * weights.abs().max()
        named = {name: value[0] for name, value in e.constants.items()}
        torch.testing.assert_close(named.pop("logits.bias"), torch.full((3,), BIAS, dtype=torch.float64))
        assert (len(named) == 1 and "pos" in next(iter(named))) if family in ("vit", "vitc", "bvt") else not named
        torch.testing.assert_close(sum(named.values(), torch.zeros(3).double()), constants, rtol=1e-8, atol=1e-9)
        assert e.residual.abs().max() <= 1e-9 * max(1.0, float(e.contributions.abs().sum(dim=(2, 3)).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_comparison_can_fail(family: str) -> None:
    model, side = make(family, 0, 2.0, 1), FAMILIES[family][5]
    x = torch.rand(1, 6, side, side, dtype=torch.float64)
    weights = twin_of(family, model, 2.0, 1, x)[1]
    leaf = x.clone().requires_grad_()
    (ordinary,) = torch.autograd.grad(model(leaf)[0, 0], leaf)  # without the frozen state
    assert (ordinary[0] - weights[0]).abs().max() > 1e-3 * weights[0].abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_networks_keep_the_laws(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    model, side = make(family, 1, 2.0, 1).float().train(), FAMILIES[family][5]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    labels = torch.tensor([0, 1, 2] * 4)
    for _ in range(5):
        optimizer.zero_grad()
        x = torch.rand(12, 6, side, side)
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    model.eval()
    x = torch.rand(3, 6, side, side)
    together = torchbcos.explain(model, x, [[0, 2]] * 3)
    for network, name in ((model, "itself"), (torchbcos.deploy(model), "deployed")):
        e = torchbcos.explain(network, x, [[0, 2]] * 3)
        scale = torch.maximum(e.values.abs(), 0.1 * e.contributions.abs().sum(dim=(2, 3))).clamp_min(1)
        assert (e.residual.abs() / scale).max() <= 1e-4, name
        assert (e.weights - together.weights).abs().max() <= 1e-4 * together.weights.abs().max(), name
    for i in range(3):
        for k, target in enumerate((0, 2)):
            alone = torchbcos.explain(model, x[i : i + 1], target)
            assert (alone.weights[0, 0] - together.weights[i, k]).abs().max() <= 1e-4 * together.weights.abs().max()
    other = x.clone()
    other[1:] = torch.rand_like(other[1:])  # what else is in the batch does not matter
    again = torchbcos.explain(model, other, [[0, 2]] * 3)
    torch.testing.assert_close(again.contributions[0], together.contributions[0], rtol=1e-4, atol=1e-6)
    file = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(model.state_dict(), file)
    fresh = make(family, 2, 2.0, 1).float()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh.eval()(x), model(x))
