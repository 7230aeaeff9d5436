"""What every network promises: written once, final, and found by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.models import FeatureInfo, Head, Network, Style, build, registry
from torchbcos.models.network import check_input

FINAL = (
    "forward", "forward_features", "forward_stages", "forward_head", "run_children", "reset_classifier", "classifier_layer",
    "classifier_parameters", "num_classes", "plain",
)  # fmt: skip
NAMES = registry.names()
PLAIN = {plain for family in registry.FAMILIES for plain in family.plain_names.values()}


def tiny(name: str, width_factor: float = 0.125, **options: Any) -> Network:
    """A network by name, narrow where its family can be."""
    width = {"width_factor": width_factor} if "width_factor" in registry.find_family(name)[0].options() else {}
    return build(name, num_classes=3, **width, **options)


def overridden(network: type[Network]) -> list[str]:
    """What a family writes anew although it is final."""
    return [name for name in FINAL if getattr(network, name) is not getattr(Network, name)]


class Columns(Network):
    """A network over signals (N, C, V), of another maker."""

    classifier_name = "last.1"
    axes = ("V",)
    smallest = 2

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.feature_info = 4, (FeatureInfo("body.0", 8, 1), FeatureInfo("body.1", 8, 1))
        self.body = nn.Sequential(bnn.BcosConv1d(4, 8, 1), bnn.BcosConv1d(8, 8, 1))
        self.head = Columns.SignalHead(Style(), 8, 3)
        self.last = nn.Sequential(nn.Identity(), self.head.make_classifier())
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        return self.run_children("body", x)

    class SignalHead(Head):
        def make_classifier(self, num_classes: int | None = None) -> nn.Module:
            return bnn.BcosConv1d(self.features, num_classes or self.num_classes, 1)


@pytest.mark.parametrize("family", registry.FAMILIES, ids=lambda family: family.network.__name__)
def test_families_write_nothing_that_is_final(family: Any) -> None:
    assert overridden(family.network) == []


def test_writing_it_anew_is_seen() -> None:
    class Other(Columns):
        def forward_head(self, x: Tensor) -> Tensor:  # type: ignore[misc]
            return x

    assert overridden(Other) == ["forward_head"]


def test_a_network_without_stages_cannot_be_made() -> None:
    class Unfinished(Network):
        classifier_name = "fc"

    with pytest.raises(TypeError, match=r"abstract method '?stages"):
        Unfinished()  # type: ignore[abstract]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_named_classifier_is_what_a_reset_replaces(name: str, plain: bool) -> None:
    with torch.device("meta"):
        net = tiny(name, 0.25, plain=plain)
        before, found = dict(net.named_parameters()), net.classifier_parameters()
        modules = [type(m) for m in net.modules()]
        net.class_names = ("a", "b", "c")
        net.reset_classifier(5)
    replaced = {key for key, p in net.named_parameters() if p is not before[key]}
    assert replaced == {key for key, p in before.items() if id(p) in found} != set()
    assert all(key.startswith(net.classifier_name + ".") for key in replaced)
    assert [type(m) for m in net.modules()] == modules and list(dict(net.named_parameters())) == list(before)
    assert (net.num_classes, net.class_names) == (5, None)
    assert net.plain == (plain or name in PLAIN)
    assert net.architecture is not None
    assert net.architecture.name == name


def test_a_fresh_classifier_keeps_mode_and_type() -> None:
    for name in ("cifar10_resnet20", "cifar10_densenet52"):
        net = tiny(name).double().eval()
        net.reset_classifier(2)
        assert not any(m.training for m in net.modules())
        assert net.classifier_layer().weight.dtype == torch.float64


def test_other_makers_may_write_a_network() -> None:
    torch.manual_seed(0)
    net, x = Columns().eval(), torch.rand(2, 4, 5)
    torchbcos.testing.check_model(net, x)
    assert len(net.forward_stages(x)) == 2 and net(x).shape == (2, 3)
    with pytest.raises(InputError, match=r"encoded pictures \(N, 4, V\), got shape \(2, 4, 5, 1\)"):
        net(x[..., None])
    with pytest.raises(InputError, match=r"A picture of 1 is too small: this network needs at least 2 pixels"):
        net(x[..., :1])
    net.reset_classifier(7)
    assert net(x).shape == (2, 7)
    assert net.classifier_parameters() == {id(net.last[1].weight)}  # what training asks


def test_a_traced_network_checks_its_input_when_it_runs() -> None:
    traced = torch.fx.symbolic_trace(tiny("vgg11_bnu").eval())
    for wrong, text in ((torch.rand(1, 6, 31, 40), "31 x 40 is too small"), (torch.rand(1, 3, 32, 32), "Expected 6 channels")):
        with pytest.raises(InputError, match=text):
            traced(wrong)


@pytest.mark.newest
@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_densenet52", "vgg11_bnu"])
def test_exported_networks_take_any_height_and_width(name: str) -> None:
    """The check of sizes binds neither of them to the example's."""
    net = tiny(name).eval()
    height, width = (torch.export.Dim(side, min=8, max=64) * 32 for side in ("height", "width"))
    exported = torch.export.export(net, (torch.rand(1, 6, 256, 320),), dynamic_shapes=({2: height, 3: width},)).module()
    for shape in ((288, 256), (256, 320)):
        x = torch.rand(1, 6, *shape)
        torch.testing.assert_close(exported(x), net(x))


def test_check_input_is_one_step_of_a_graph() -> None:
    graph = torch.fx.symbolic_trace(tiny("cifar10_resnet20")).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"].count(check_input) == 1


# what comes, what the network takes -> the next step
CHANNELS = [
    (
        (1, 3, 32, 32),
        {},
        r"Expected 6 channels, got 3 .* RGB is encoded first: torchbcos\.functional\.add_inverse\(x\), or clf",
    ),
    ((1, 1, 32, 32), {}, r"Expected 6 channels, got 1 .* takes RGB\. Repeat grey: x\[:, :1\]\.expand\(-1, 3, -1, -1\); then"),
    ((1, 1, 32, 32), {"in_channels": 2}, r"Expected 2 channels, got 1 .* Input is encoded first"),
    ((1, 6, 32, 32), {"in_channels": 2}, r"Expected 2 channels, got 6 .* takes grey pictures"),
    ((1, 6, 32, 32), {"plain": True}, r"Expected 3 channels, got 6 .* not encoded: leave add_inverse out"),
    ((1, 32, 32, 6), {}, r"Expected 6 channels, got 32 .* Channels come second: x\.movedim\(-1, 1\)"),
    (
        (6, 32, 32),
        {},
        r"Expected a batch of .* \(N, 6, H, W\), got shape .* One picture alone is a batch as x\[None\]",
    ),
    ((1, 5, 32, 32), {}, r"Expected 6 channels, got 5 \(shape \(1, 5, 32, 32\)\)\.$"),
]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11", "convnext_atto", "simple_vit_ti_patch16_224"])
@pytest.mark.parametrize(("shape", "options", "text"), CHANNELS)
def test_wrong_channels_are_answered_with_the_next_step(
    name: str, shape: tuple[int, ...], options: dict[str, Any], text: str
) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=text) as caught:
        tiny(name, **options)(torch.rand(shape))
    assert len(str(caught.value)) <= 500


# -- seeds -----------------------------------------------------------------------------------------


def digest(net: Network) -> str:
    """Of names, shapes and values, as float32."""
    found = hashlib.sha256()
    for key, value in net.state_dict().items():
        found.update(f"{key} {tuple(value.shape)}".encode())
        found.update(value.float().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


# name, options -> state of the network of seed 0, and after `reset_classifier(4)`; computed before `Network` was written
SEEDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("resnet18", {}, "1834eaafbf4e230a", "a6c6525a2a610922"),
    ("resnet18", {"antialias": True}, "8798a5f8ec1cb5fb", "29c1fb14edafec5e"),
    ("cifar10_resnet20", {"plain": True}, "134ebf08113e9785", "636322dc82b744e4"),
    ("resnet50", {"max_out": 2}, "c2435cbc6098f285", "13ffa0f01cddbaef"),
    ("densenet121", {}, "190cebdc7fa9a77a", "87e4985877e7f4f2"),
    ("cifar10_densenet52", {"plain": True}, "98bddb786edc1fcd", "ec36dc5a701cc206"),
    ("densenet121", {"antialias": True}, "e6afc14c4be7a374", "04190de8253c873d"),
    ("vgg11_bnu", {}, "04d5ba0cdb18fdf9", "12601a892779b85f"),
    ("vgg11", {"plain": True}, "b84b0b139fcc1901", "cfefb77eb2100087"),
    ("convnext_atto", {}, "0b799760a9052ed6", "c22bcfa9c5c37862"),
    ("convnext_atto", {"plain": True}, "98ae6da45b77d2f7", "d2d6052f3d4fd53a"),
    ("convnext_tiny_bnu", {"antialias": True}, "341400849550bc0c", "ef679a3a667b734a"),
    ("simple_vit_ti_patch16_224", {}, "7a7fd570d4179be0", "b05ad1a2f70c7d2b"),
    ("vitc_ti_patch1_14", {}, "e83690d040539c6c", "9e74a097002a8af0"),
    ("vitc_ti_patch1_14", {"plain": True}, "2e173b1c8c53f8cf", "ad32ea426c7246b4"),
]


@pytest.mark.parametrize(("name", "options", "fresh", "reset"), SEEDS)
def test_a_seed_gives_the_same_weights_as_ever(name: str, options: dict[str, Any], fresh: str, reset: str) -> None:
    torch.manual_seed(0)
    net = tiny(name, **options)
    assert digest(net) == fresh
    net.reset_classifier(4)
    assert digest(net) == reset
