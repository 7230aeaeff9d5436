"""Grad-CAM, Layer-CAM, HiResCAM: twins, closed forms, Captum; the layer that a network chooses; nothing is left behind."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import torchbcos
from tests.reference import attributions as reference
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos._core.frozen import mode
from torchbcos.attribution import GradCam, HiResCam, LayerCam, Subject
from torchbcos.attribution.features import features_of
from torchbcos.explanation.layer import contribution_maps
from torchbcos.models import build
from torchbcos.models.vit import STYLES, ViT, ViTSizes

METHODS = {"grad_cam": GradCam, "layer_cam": LayerCam, "hires_cam": HiResCam}


def plain(classes: int = 4) -> nn.Sequential:
    """A small ordinary network in float64: global pooling, a linear classifier."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).double().eval()


def bcos(classes: int = 4) -> nn.Sequential:
    """A small B-cos network without constants: its head is a convolution before the pooling."""
    torch.manual_seed(0)
    layers = [bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 7, 3, 2), bnn.BcosConv2d(7, classes, 1)]
    return nn.Sequential(*layers, bnn.GlobalAveragePool()).double().eval()


def pictures(n: int = 3, channels: int = 3, size: tuple[int, int] = (9, 11)) -> Tensor:
    x = torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if channels == 3 else torch.cat([x, 1 - x], 1)


def chosen(net: nn.Module, x: Tensor, scales: str = "live") -> str:
    """The name of the layer that a network chooses."""
    with features_of(Subject(net, None, x, 0, scales=scales), slice(None), None, "grad_cam") as features:
        return features.name


@pytest.mark.parametrize("name", METHODS)
def test_twins_give_the_same(name: str) -> None:
    net, x = bcos(), pictures(2, 6)
    features = net[:2](x).detach().requires_grad_()
    outputs = net[2:](features)
    for k in (0, 3):
        (gradient,) = torch.autograd.grad(outputs[:, k].sum(), features, retain_graph=True)
        for relu in (True, False) if name != "hires_cam" else (None,):
            options = {} if relu is None else {"relu": relu}
            small = np.stack(
                [
                    getattr(reference, name)(a, g, **options)
                    for a, g in zip(features.detach().numpy(), gradient.numpy(), strict=True)
                ]
            )
            found = torchbcos.attribute(net, x, k, method=METHODS[name](**options)).maps[:, 0]
            large = F.interpolate(torch.as_tensor(small)[:, None], (9, 11), mode="bilinear")[:, 0]
            if name == "hires_cam":  # shared out among the pixels: its sum stays
                assert torch.allclose(found.flatten(1).sum(1), torch.as_tensor(small).flatten(1).sum(1), atol=1e-12)
                assert float(torch.corrcoef(torch.stack([found[0].flatten(), large[0].flatten()]))[0, 1]) > 0.99
            else:
                assert torch.allclose(found, large, atol=1e-12)


@pytest.mark.parametrize("net", [plain(), bcos()], ids=["plain", "bcos"])
def test_captum_gives_the_same(net: nn.Sequential) -> None:
    x = pictures(3, 3 if isinstance(net[0], nn.Sequential) else 6)
    layer = net[0] if isinstance(net[0], nn.Sequential) else net[1]
    theirs = captum.attr.LayerGradCam(net, layer).attribute(x, torch.tensor([1, 0, 3]), relu_attributions=True)
    theirs = captum.attr.LayerAttribution.interpolate(theirs, (9, 11), "bilinear")
    assert torch.allclose(GradCam(net).attribute(x, torch.tensor([1, 0, 3])), theirs.detach(), atol=1e-12)


def test_with_pooling_and_a_linear_classifier_two_are_the_class_activation_map() -> None:
    net, x = plain(), pictures()
    features = net[0](x).detach()
    weights = net[3].weight.detach()
    cam = torch.einsum("kc,nchw->nkhw", weights, features)  # Zhou et al. 2016, eq. 2
    large = F.interpolate(cam, (9, 11), mode="bilinear")
    targets = torch.arange(4).expand(3, 4)
    grad = torchbcos.attribute(net, x, targets, method=GradCam(relu=False))
    assert torch.allclose(grad.maps * 35, large, atol=1e-12)
    for scales in ("live", "frozen"):
        hires = torchbcos.attribute(net, x, targets, method="hires_cam", scales=scales)
        assert torch.allclose(hires.maps.flatten(2).sum(2) + net[3].bias, net(x), atol=1e-12)
    same = F.interpolate(cam, (5, 7), mode="bilinear")  # at their own size nothing is shared out
    layer = torchbcos.attribute(nn.Sequential(nn.Identity(), *net[1:]).eval(), features, targets, method="hires_cam")
    assert torch.allclose(layer.maps * 35, same, atol=1e-12)


def test_held_scales_sum_to_the_output() -> None:
    net, x = bcos(), pictures(channels=6)
    held = torchbcos.attribute(net, x, torch.arange(4).expand(3, 4), method="hires_cam", scales="frozen")
    live = torchbcos.attribute(net, x, torch.arange(4).expand(3, 4), method="hires_cam")
    assert held.delta is not None and live.delta is None
    assert float(held.delta.abs().max()) < 1e-12
    assert torch.allclose(held.maps.flatten(2).sum(2), net(x), atol=1e-12)
    # one B-cos layer has degree 1 at every place (Euler), but for epsilon of the norm of a patch
    assert torch.allclose(held.maps, live.maps, atol=5e-3 * float(live.maps.abs().max()))
    early = [torchbcos.attribute(net, x, 1, method=HiResCam(layer="0"), scales=s).maps for s in ("live", "frozen")]
    assert not torch.allclose(*early, atol=0.1 * float(early[0].abs().max()))
    cams = [torchbcos.attribute(net, x, 1, method="grad_cam", scales=s).maps for s in ("live", "frozen")]
    assert not torch.allclose(*cams, atol=0.1 * float(cams[0].abs().max()))


def test_held_scales_are_the_explanation_of_that_layer() -> None:
    net = build("cifar10_resnet20", num_classes=3, logit_bias=-1.5).double().eval()
    x = pictures(2, 6, (16, 16))
    maps = contribution_maps(net, x, torch.tensor([0, 2]), wrt="layer3").detach()
    found = torchbcos.attribute(net, x, torch.tensor([[0], [2]]), method="hires_cam", scales="frozen")
    small = F.avg_pool2d(found.maps, 4) * 16
    assert torch.allclose(small.flatten(2).sum(2)[:, 0], maps.flatten(1).sum(1), atol=1e-12)
    assert found.delta is not None and float(found.delta.abs().max()) < 1e-12  # the bias of the logits is named, and left out
    assert torch.allclose(torchbcos.attribute(net, x, [0, 2], method=HiResCam(layer="layer3"), scales="frozen").maps, found.maps)


class Blocks(nn.Module):
    """A transformer of attention written out, with a class token or the mean over tokens."""

    def __init__(self, token: bool, extra: int = 0, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, extra + token, 8))
        self.blocks = nn.ModuleList(
            [torchvision.models.vision_transformer.EncoderBlock(2, 8, 16, 0.0, 0.0) for _ in range(depth)]
        )
        self.norm, self.head, self.token = nn.LayerNorm(8), nn.Linear(8, 4), token

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.token else x.mean(1))


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


def test_pooling_to_a_fixed_size_is_no_layer_with_places() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)]
    net = nn.Sequential(*layers).double().eval()
    assert chosen(net, pictures(1, 3, (16, 40))) == "1"
    assert chosen(net, pictures(1, 3, (16, 16))) == "2"


@pytest.mark.parametrize("scales", ["live", "frozen"])
def test_one_image_or_many_one_target_or_many(scales: str) -> None:
    for net, x in ((bcos(), pictures(channels=6)), (Blocks(True).double().eval(), pictures(3, 3, (12, 16)))):
        targets = torch.tensor([[0, 1, 3], [3, 2, 1], [0, 0, 2]])
        for method in METHODS.values():
            whole = torchbcos.attribute(net, x, targets, method=method, scales=scales)
            for size in (1, 2):
                again = torchbcos.attribute(net, x, targets, method=method, scales=scales, batch_size=size)
                assert torch.allclose(again.maps, whole.maps, atol=1e-12)
            one = torchbcos.attribute(net, x[1:2], [[2]], method=method, scales=scales)
            assert torch.allclose(one.maps[0, 0], whole.maps[1, 1], atol=1e-12)


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


def state(net: nn.Module) -> tuple[object, ...]:
    return (
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()],
        [m.training for m in net.modules()], [p.grad for p in net.parameters()], [p.requires_grad for p in net.parameters()],
        torch.get_rng_state().tolist(), torch.is_grad_enabled(),
    )  # fmt: skip


class Breaks(nn.Module):
    """Raises in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broken")


class Sticks(nn.Module):
    """Fails in its second backward pass: the first one chooses the layer."""

    def forward(self, x: Tensor) -> Tensor:
        y, passes = x * 1.0, []

        def fail(gradient: Tensor) -> None:
            passes.append(gradient)
            if len(passes) > 1:
                raise RuntimeError("stuck")

        if y.requires_grad:
            y.register_hook(fail)
        return y


@pytest.mark.parametrize("name", METHODS)
def test_an_error_on_the_way_back_leaves_nothing_either(name: str) -> None:
    net, x = nn.Sequential(*plain()[:2], Sticks(), *plain()[2:]).eval(), pictures()
    before = state(net)
    for scales in ("live", "frozen"):
        with torch.no_grad(), pytest.raises(RuntimeError, match="stuck") as caught:  # the error keeps its frames
            torchbcos.attribute(net, x, 1, method=name, scales=scales)
        assert caught.value is not None and not mode() and state(net) == before


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind(name: str) -> None:
    net, x = plain(), pictures()
    before = state(net)
    for scales in ("live", "frozen"):
        torchbcos.attribute(net, x, 1, method=name, scales=scales)
        with torch.inference_mode():
            torchbcos.attribute(net, x, 1, method=name, scales=scales)
        with pytest.raises(InputError):
            torchbcos.attribute(net, x, 9, method=name, scales=scales)
    assert state(net) == before and not x.requires_grad
    broken = nn.Sequential(nn.Conv2d(3, 2, 3).double(), Breaks()).eval()
    before = state(broken)
    for scales in ("live", "frozen"):
        with pytest.raises(Exception, match="broken"):
            torchbcos.attribute(broken, x, 0, method=name, scales=scales)
    assert state(broken) == before


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


def test_what_passes_by_the_places_is_told() -> None:
    net, x = Blocks(True).double().eval(), pictures(2, 3, (12, 16))
    found = torchbcos.attribute(net, x, 1, method="hires_cam", scales="frozen")
    assert found.delta is not None and float(found.delta.abs().min()) > 1e-3  # through the class token
    found = torchbcos.attribute(Blocks(False).double().eval(), x, 1, method="hires_cam", scales="frozen")
    assert found.delta is not None and float(found.delta.abs().max()) < 1e-12


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
