"""Grad-CAM, Layer-CAM, HiResCAM: twins, closed forms, Captum; K targets are K calls; nothing is left behind."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import attribution_attention as reference
from tests.reference.small import Blocks, bcos, pictures, plain
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import mode
from torchbcos.attribution import GradCam, HiResCam, LayerCam
from torchbcos.explanation.layer import contribution_maps
from torchbcos.models import build

METHODS = {"grad_cam": GradCam, "layer_cam": LayerCam, "hires_cam": HiResCam}


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


@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_twins_over_drawn_features(seed: int, channels: int, height: int, width: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    a, g = (torch.randn(2, channels, height, width, generator=drawn, dtype=torch.float64) for _ in range(2))
    for method in (GradCam(), GradCam(relu=False), LayerCam(), LayerCam(relu=False), HiResCam()):
        options = {} if isinstance(method, HiResCam) else {"relu": method.relu}  # type: ignore[attr-defined]
        twin = getattr(reference, method.name)
        for i in range(2):
            assert np.allclose(method.weighted(a, g)[i].numpy(), twin(a[i].numpy(), g[i].numpy(), **options), atol=1e-12)


def test_a_planted_fault_is_seen() -> None:
    drawn = torch.Generator().manual_seed(0)
    a, g = (torch.randn(1, 6, 4, 4, generator=drawn, dtype=torch.float64) for _ in range(2))
    weights = g.mean((2, 3), keepdim=True)
    wrong = {
        "grad_cam": [(weights.clamp_min(0) * a).sum(1).clamp_min(0), (g * a).sum(1).clamp_min(0), (weights * a).sum(1).abs()],
        "layer_cam": [(g * a).sum(1).clamp_min(0), (g * a).clamp_min(0).sum(1), (g.abs() * a).sum(1).clamp_min(0)],
        "hires_cam": [(weights * a).sum(1), (g * a).sum(1).clamp_min(0), (g.clamp_min(0) * a).sum(1)],
    }
    for name, faults in wrong.items():
        twin = getattr(reference, name)(a[0].numpy(), g[0].numpy())
        assert all(not np.allclose(fault[0].numpy(), twin, atol=1e-3) for fault in faults)


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


@pytest.mark.parametrize("scales", ["live", "frozen"])
def test_targets_share_the_pass_forward(scales: str) -> None:
    net, x, runs = plain(), pictures(), []
    handle = net.register_forward_hook(lambda *_: runs.append(1))
    for method in METHODS.values():
        runs.clear()
        assert torchbcos.attribute(net, x, torch.arange(4).expand(3, 4), method=method, scales=scales).passes == 5
        assert len(runs) == 1
    handle.remove()


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


def test_what_passes_by_the_places_is_told() -> None:
    net, x = Blocks(True).double().eval(), pictures(2, 3, (12, 16))
    found = torchbcos.attribute(net, x, 1, method="hires_cam", scales="frozen")
    assert found.delta is not None and float(found.delta.abs().min()) > 1e-3  # through the class token
    found = torchbcos.attribute(Blocks(False).double().eval(), x, 1, method="hires_cam", scales="frozen")
    assert found.delta is not None and float(found.delta.abs().max()) < 1e-12
