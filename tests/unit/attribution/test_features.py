"""The layer whose features are weighted: chosen by the network, or named; of this thread alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import torchbcos
from tests.reference.small import Blocks, Sequence, bcos, pictures, plain
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.attribution import GradCam, HiResCam, LayerCam, Subject
from torchbcos.attribution.features import features_of
from torchbcos.models import build
from torchbcos.models.vit import STYLES, ViT, ViTSizes

METHODS = {"grad_cam": GradCam, "layer_cam": LayerCam, "hires_cam": HiResCam}


def chosen(net: nn.Module, x: Tensor, scales: str = "live") -> str:
    """The name of the layer that a network chooses."""
    with features_of(Subject(net, None, x, 0, scales=scales), slice(None), None, "grad_cam") as features:
        return features.name


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "plain": (plain, pictures(), "0"),
    "bcos": (bcos, pictures(channels=6), "1"),
    "class token": (lambda: Blocks(True), pictures(2, 3, (12, 16)), "blocks.1"),
    "class token, registers": (lambda: Blocks(True, 2), pictures(2, 3, (12, 16)), "blocks.1"),
    "mean token": (lambda: Blocks(False), pictures(2, 3, (12, 12)), "norm"),
    "as many features as classes": (lambda: plain(6), pictures(), "0"),
    "resnet": (lambda: build("resnet18", num_classes=5, width_factor=0.05), pictures(2, 6, (64, 64)), "layer4"),
    "vgg": (lambda: build("vgg11", num_classes=5, width_factor=0.03), pictures(2, 6, (64, 64)), "classifier.1"),
    "vit": (
        lambda: ViT(
            ViTSizes(dim=8, heads=2, mlp=8, depth=2, patch=4, head_dim=4), STYLES["simple_vit_ti_patch16_224"], num_classes=5
        ),
        pictures(2, 6, (12, 16)), "transformer.encoder_1",
    ),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5),
        pictures(2, 3, (32, 48)), "permute",
    ),
    "signal with a class token": (lambda: Sequence(1, False), pictures(2)[:, :, 0].repeat(1, 1, 4), "encoder.layers.0"),
    "volume with a class token": (
        lambda: Sequence(3, False), pictures(2, 3, (8, 12))[:, :, None].repeat(1, 1, 8, 1, 1), "encoder.layers.0",
    ),
    "signal": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5)),
        torch.rand(2, 2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), "1",
    ),
    "volume": (
        lambda: nn.Sequential(bnn.BcosConv3d(2, 4, 3, (1, 2, 2)), bnn.BcosConv3d(4, 5, 1), bnn.GlobalAveragePool()),
        torch.rand(2, 2, 5, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), "0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_chooses_the_layer(name: str) -> None:
    make, x, layer = NETWORKS[name]
    net = make().double().eval()
    for scales in ("live", "frozen"):
        assert chosen(net, x, scales) == layer
        for method in METHODS.values():
            found = torchbcos.attribute(net, x, [[0, 1], [3, 0], [1, 2]][: len(x)], method=method, scales=scales)
            named = torchbcos.attribute(net, x, [[0, 1], [3, 0], [1, 2]][: len(x)], method=method(layer=layer), scales=scales)
            assert found.maps.shape == (len(x), 2, *x.shape[2:]) and torch.equal(found.maps, named.maps)
            assert bool(found.maps.isfinite().all()) and found.passes == 3
            assert method is HiResCam or float(found.maps.min()) >= 0


@pytest.mark.parametrize("name", METHODS)
def test_tokens_before_images(name: str) -> None:
    """As `torch.nn.TransformerEncoder` has them by default; held factors then need one image at a time."""
    other, net, x = Sequence(2, True).double().eval(), Sequence(2, False).double().eval(), pictures(2, 3, (8, 12))
    assert torch.allclose(net(x), other(x), atol=1e-12)
    for scales in ("live", "frozen"):
        one, two = (torchbcos.attribute(n, x, [[0, 1], [2, 3]], method=name, scales=scales) for n in (net, other))
        assert torch.allclose(one.maps, two.maps, atol=1e-12) and bool(one.maps.any())
        assert (one.delta is None and two.delta is None) or torch.allclose(one.delta, two.delta, atol=1e-12)


def test_pooling_to_a_fixed_size_is_no_layer_with_places() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)]
    net = nn.Sequential(*layers).double().eval()
    assert chosen(net, pictures(1, 3, (16, 40))) == "1"
    assert chosen(net, pictures(1, 3, (16, 16))) == "2"


def test_a_dead_image_does_not_change_what_the_others_get() -> None:
    net, x = plain(), pictures()
    with torch.no_grad():
        net[3].weight[2] = 0  # the first target has no gradient anywhere
    whole = torchbcos.attribute(net, x, [[2, 1]] * 3, method="grad_cam")
    assert torch.equal(whole.maps[:, 1:], torchbcos.attribute(net, x, 1, method="grad_cam").maps)
    assert not bool(whole.maps[:, 0].any())
    head = bcos()
    dark = pictures(channels=6)
    dark[0] = 0
    whole = torchbcos.attribute(head, dark, 1, method="grad_cam")
    alone = torchbcos.attribute(head, dark[:1], 1, method="grad_cam")
    assert torch.allclose(whole.maps[:1], alone.maps, atol=1e-12)


def test_another_thread_is_not_looked_at() -> None:
    """While a network is attributed here, another thread runs it: neither sees the other."""
    ready, go = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread() is threading.main_thread():
                ready.set()
                assert go.wait(10)
            return x

    net = nn.Sequential(*plain()[:1], Waits(), *plain()[1:]).eval()
    x, outputs = pictures(), []

    def other() -> None:
        assert ready.wait(10)
        outputs.append(net(x + 1))
        go.set()

    thread = threading.Thread(target=other)
    thread.start()
    found = torchbcos.attribute(net, x, 1, method="grad_cam")
    thread.join()
    assert torch.equal(found.maps, torchbcos.attribute(plain(), x, 1, method="grad_cam").maps)
    assert torch.equal(outputs[0], net(x + 1))


def test_layers_by_name() -> None:
    net, x = plain(), pictures()
    before = captum.attr.LayerGradCam(net, net[0][2]).attribute(x, 1, relu_attributions=True)  # before the ReLU in place
    found = GradCam(net, layer="0.2").attribute(x, 1)
    assert torch.allclose(found, F.interpolate(before, (9, 11), mode="bilinear").detach(), atol=1e-12)
    for layer, error, words in [
        ("0.22", InputError, "0.2"), (3, InputError, "named_modules"), ("3", InputError, "places"), ("1", InputError, "places"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words) as caught:
            torchbcos.attribute(net, x, 1, method=GradCam(layer=layer))  # type: ignore[arg-type]
        assert len(str(caught.value)) <= 500
    twice = nn.Sequential(*[nn.Conv2d(3, 3, 1)] * 2, bnn.GlobalAveragePool()).double().eval()
    with pytest.raises(StateError, match="2 times"):
        torchbcos.attribute(twice, x, 1, method=GradCam(layer="0"))
    with pytest.raises(StateError, match="class token"):
        torchbcos.attribute(Blocks(True).double().eval(), pictures(1, 3, (12, 16)), 1, method=GradCam(layer="norm"))


def test_what_a_twin_folded_is_named() -> None:
    net = build("resnet18", num_classes=5, width_factor=0.05).eval()
    x = pictures(2, 6, (64, 64)).float()
    twin = torchbcos.deploy(net)
    with pytest.raises(InputError, match=r"layer='layer4.1.conv2'"):
        torchbcos.attribute(twin, x, 1, method=GradCam(layer="layer4.1.bn2"))
    for scales in ("live", "frozen"):
        one, other = (torchbcos.attribute(n, x, 1, method="grad_cam", scales=scales).maps for n in (net, twin))
        assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max()))


def test_networks_that_have_no_such_layer() -> None:
    x = pictures()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(297, 4)).double()
    with pytest.raises(StateError, match="places"):
        torchbcos.attribute(flat, x, 1, method="grad_cam")
    with pytest.raises(ArgumentTypeError):
        torchbcos.attribute(lambda batch: batch.mean((2, 3)), x, 1, method="grad_cam")
    with pytest.raises(StateError, match="gradient"), warnings.catch_warnings():
        torchbcos.attribute(nn.Sequential(plain(), Cuts()).eval(), x, 1, method="grad_cam")


class Cuts(nn.Module):
    """Gives a tensor without history."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()
