"""W and every named constant of ordinary networks, against the slow referee that knows neither autograd nor the rules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from tests.reference import ordinary
from tests.reference.held import Answer, Held, Network, explain, hard_sigmoid, step
from tests.reference.ordinary import GluMlp, drawn

torchvision = pytest.importorskip("torchvision", reason="the referees speak of torchvision's networks")
BOUND = 1e-9
BLOCKS = {"layer1": 1, "layer2": 1}
Made = tuple[nn.Module, Network, float, tuple[int, int]]


def _resnet(bottleneck: bool) -> Made:
    """The first two stages."""
    from_ = torchvision.models.resnet
    block, width = (from_.Bottleneck, 16) if bottleneck else (from_.BasicBlock, 64)
    net = from_.ResNet(block, [1, 1, 1, 1], num_classes=5, width_per_group=width)
    net.layer3, net.layer4 = nn.Identity(), nn.Identity()
    net.fc = nn.Linear(128 * block.expansion, 5)
    return net, ordinary.resnet(BLOCKS, bottleneck=bottleneck), 1e-5, (11, 14)


def _convnext() -> Made:
    from_ = torchvision.models.convnext
    sizes = [from_.CNBlockConfig(8, 12, 1), from_.CNBlockConfig(12, None, 2)]
    return from_.ConvNeXt(sizes, num_classes=5), ordinary.convnext((1, 2)), 1e-6, (24, 16)


def _vit() -> Made:
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, 12, 20, num_classes=5)
    return net, ordinary.vision_transformer(2, 2, 4), 1e-6, (16, 16)


def _swin(version: int) -> Made:
    """Sides that fit neither windows nor merging; the second stage has one window in one direction, the third in both."""
    from_ = torchvision.models.swin_transformer
    parts = (None, from_.PatchMerging) if version == 1 else (from_.SwinTransformerBlockV2, from_.PatchMergingV2)
    net = from_.SwinTransformer(
        [2, 2], 8, [2, 2, 2], [2, 4, 2], [3, 3], mlp_ratio=2.0, num_classes=5, stochastic_depth_prob=0.0,
        block=parts[0], downsample_layer=parts[1],
    )  # fmt: skip
    return net, ordinary.swin((2, 2, 2), (2, 4, 2), patch=2, window=3, version=version), 1e-5, (10, 22)


def _mobilenet() -> Made:
    from_ = torchvision.models.mobilenetv3
    rows = [(8, 3, 8, 8, True, "RE", 2), (8, 5, 16, 8, True, "HS", 1), (8, 3, 24, 16, False, "HS", 2)]
    net = from_.MobileNetV3([from_.InvertedResidualConfig(*row, 1, 1.0) for row in rows], 12, num_classes=5)
    blocks = [(2, step), (1, hard_sigmoid), (2, hard_sigmoid)]
    return net, ordinary.mobilenet(blocks), 1e-3, (20, 18)


def _efficientnet() -> Made:
    from_ = torchvision.models.efficientnet
    rows = [(1, 3, 1, 8, 8, 1), (3, 5, 2, 8, 16, 2)]
    net = from_.EfficientNet([from_.MBConvConfig(*row) for row in rows], 0.2, num_classes=5)
    return net, ordinary.efficientnet([(1, 1), (2, 2)]), 1e-5, (18, 20)


def _glu(rms: bool) -> Made:
    kinds = ("swiglu", "glu", "geglu")
    return GluMlp(kinds, rms=rms), ordinary.glu_mlp(kinds, rms=rms), 1e-5, (12, 16)


NETWORKS: dict[str, Callable[[], Made]] = {
    "resnet-basic": lambda: _resnet(False), "resnet-bottleneck": lambda: _resnet(True), "convnext": _convnext, "vit": _vit,
    "swin": lambda: _swin(1), "swin-v2": lambda: _swin(2), "mobilenet": _mobilenet, "efficientnet": _efficientnet,
    "glu-layer": lambda: _glu(False), "glu-rms": lambda: _glu(True),
}  # fmt: skip


@functools.cache
def _case(name: str) -> tuple[nn.Module, Tensor, list[Answer]]:
    """The network, two pictures, and the referee's answer to each."""
    torch.manual_seed(3)
    net, network, eps, size = NETWORKS[name]()
    net = drawn(net)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    return net, x, [explain(network, Held(net.state_dict(), eps=eps), row[None]) for row in x]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_referee_adds_up(name: str) -> None:
    """Its own logits are the network's, and W·x with the constants gives them back."""
    net, x, answers = _case(name)
    with torch.no_grad():
        logits = net(x)
    for row, logit, answer in zip(x, logits, answers, strict=True):
        total = (answer.weights * row).flatten(1).sum(1) + sum(answer.constants.values())
        scale = float(logits.abs().max())
        assert float((answer.logits - logit).abs().max()) <= 1e-11 * scale
        assert float((total - logit).abs().max()) <= 1e-11 * scale
        assert {n for n, c in answer.constants.items() if float(c.abs().max()) > 0} == set(answer.constants)


def _differences(e: torchbcos.Explanation, answers: list[Answer]) -> dict[str, float]:
    """How far W, contributions and each constant are from the referee's, relative to the largest number of their kind."""
    found: dict[str, float] = {}
    scale = max(float(c.abs().max()) for a in answers for c in [a.logits, *a.constants.values()])
    for n, answer in enumerate(answers):

        def column(values: Tensor, n: int = n) -> Tensor:
            chosen = values[e.targets[n]]
            return chosen if e.contrast is None else chosen - values[e.contrast[n]]

        weights = column(answer.weights)
        contributions = (weights * e.inputs[n]).sum(1)
        for name, mine, theirs, size in [
            ("weights", e.weights[n], weights, float(weights.abs().max())),
            ("contributions", e.contributions[n], contributions, float(contributions.abs().max())),
            ("values", e.values[n], column(answer.logits), scale),
        ]:
            found[name] = max(found.get(name, 0.0), float((mine - theirs).abs().max()) / size)
        # What only one of them names is nothing to the other: the bias of keys, or of a squeeze.
        for name in {*answer.constants, *e.constants}:
            ours = e.constants[name][n] if name in e.constants else torch.zeros_like(e.values[n])
            theirs = column(answer.constants[name]) if name in answer.constants else torch.zeros_like(e.values[n])
            found[name] = max(found.get(name, 0.0), float((ours - theirs).abs().max()) / scale)
    return found


def _wrong(e: torchbcos.Explanation, answers: list[Answer]) -> dict[str, float]:
    return {name: off for name, off in _differences(e, answers).items() if not off <= BOUND}


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_the_referee(name: str) -> None:
    """The two highest classes; given ones; and differences of given ones."""
    net, x, answers = _case(name)
    assert _wrong(torchbcos.explain(net, x, top_k=2), answers) == {}
    targets, contrast = torch.tensor([[3, 0], [1, 2]]), torch.tensor([[4, 1], [0, 0]])
    assert _wrong(torchbcos.explain(net, x, targets), answers) == {}
    assert _wrong(torchbcos.explain(net, x, targets, contrast=contrast), answers) == {}


def test_another_choice_of_held_factors_is_seen() -> None:
    """The plain gradient adds up no better than W does here, and is another one: these comparisons can fail."""
    net, x, answers = _case("convnext")
    e = torchbcos.explain(net, x)
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(net(leaf).gather(1, e.targets).sum(), leaf)[0]
    constants = dict(e.constants)
    constants["classifier.2.bias"] = constants["classifier.2.bias"] * (1 + 1e-6)
    planted = dataclasses.replace(e, weights=gradient[:, None], constants=constants)
    assert {"weights", "classifier.2.bias"} <= set(_wrong(planted, answers))
