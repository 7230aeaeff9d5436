"""Networks without classes: pooled features (N, F), of every family, explained, saved and loaded. Padding of borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.models import Network, build
from torchbcos.models.blocks import Head, Style
from torchbcos.nn.filters import FilterLayer
from torchbcos.zoo import create_model

SMALL = [
    ("resnet18", {"width_factor": 0.125}), ("cifar10_resnet20", {"plain": True}), ("cifar10_densenet52", {}),
    ("vgg11_bnu", {"width_factor": 0.02}), ("vgg11", {"width_factor": 0.02, "plain": True}),
    ("convnext_atto", {"width_factor": 0.2, "layer_scale": 0.5}),
    ("convnext_atto", {"width_factor": 0.2, "plain": True, "layer_scale": 0.5}),
    ("simple_vit_ti_patch16_224", {}), ("vitc_ti_patch1_14", {"antialias": True}),
    ("bvt_tiny_patch8", {"depth": 2}), ("bwin_tiny", {"width_factor": 0.25}),
]  # fmt: skip


def made(name: str, **options: Any) -> Network:
    torch.manual_seed(0)
    return build(name, **options).eval()


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_features_are_what_the_classifier_reads(name: str, options: dict[str, Any]) -> None:
    whole, bare = made(name, num_classes=3, **options), made(name, num_classes=0, **options)
    whole, bare, x = whole.double(), bare.double(), torch.rand(2, whole.in_channels, 32, 32, dtype=torch.float64)
    torchbcos.recalibrate(whole, [x])
    bare.load_state_dict(whole.state_dict(), strict=False)
    features = bare(x).detach()
    assert features.shape == (2, bare.num_features) and bare.num_classes == 0
    seen: list[torch.Tensor] = []
    whole.get_classifier().register_forward_hook(lambda module, given, out: seen.append(given[0]))
    whole(x)
    pooled = seen[0] if seen[0].dim() == 2 else seen[0].flatten(2).mean(2)
    torch.testing.assert_close(features, pooled)  # without the logit bias
    whole.reset_classifier(0)
    torch.testing.assert_close(whole(x), features)
    e = torchbcos.explain(bare, x, targets=[1, 2])
    torch.testing.assert_close(e.values[:, 0], features[[0, 1], [1, 2]])
    assert float(e.residual.abs().max()) <= 1e-5 * max(1.0, float(features.abs().max()))


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "vgg11", "convnext_tiny", "vitc_ti_patch1_14"])
def test_every_family_does_without_classes_and_gets_them_back(name: str) -> None:
    with torch.device("meta"):
        bare = build(name, num_classes=0)
        assert isinstance(bare.get_classifier(), nn.Identity) and bare.classifier_parameters() == set()
        bare.reset_classifier(7)
        usual = build(name, num_classes=7)
    shapes = {key: value.shape for key, value in usual.state_dict().items()}
    assert {key: value.shape for key, value in bare.state_dict().items()} == shapes
    assert (bare.logits.bias, bare.logits.temperature) == (usual.logits.bias, usual.logits.temperature)


def test_a_classifier_that_comes_back_keeps_dtype_and_mode() -> None:
    bare = made("cifar10_resnet20", num_classes=0).double()
    bare.reset_classifier(4)
    assert bare.get_classifier().weight.dtype == torch.float64 and not bare.get_classifier().training
    with pytest.raises(InputError, match="num_classes must be a positive integer, not -1; 0 gives a network that returns pooled"):
        bare.reset_classifier(-1)
    with pytest.raises(InputError, match="not True"):
        Head(Style(), 4, True)


def test_temperature_and_bias_wait_for_classes() -> None:
    bare = made("cifar10_resnet20", num_classes=0, logit_bias=-2.0, temperature=3.0)
    assert (bare.logits.bias, bare.logits.temperature) == (None, None)
    bare.reset_classifier(4)
    assert (bare.logits.bias, bare.logits.temperature) == (-2.0, 3.0)


def test_features_are_saved_loaded_and_made_of_weights_with_classes(tmp_path: Path) -> None:
    x = torch.rand(2, 6, 32, 32)
    whole = made("cifar10_resnet20", num_classes=3)
    torchbcos.save(whole, tmp_path / "whole")
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    features = create_model(weights=tmp_path / "whole", num_classes=0).eval()
    torch.testing.assert_close(
        create_model("cifar10_resnet20", weights=tmp_path / "whole.pth", num_classes=0).eval()(x), features(x)
    )
    torchbcos.save(features, tmp_path / "bare")
    torch.save(features.state_dict(), tmp_path / "bare.pth")
    torch.testing.assert_close(
        create_model("cifar10_resnet20", weights=tmp_path / "bare.pth", num_classes=0).eval()(x), features(x)
    )
    for deploy in (False, True):
        loaded = torchbcos.load(tmp_path / "bare", device="cpu", deploy=deploy)
        torch.testing.assert_close(loaded.model(x), features(x))
    again = create_model(weights=tmp_path / "bare", num_classes=5)
    assert again.num_classes == 5 and again(x).shape == (2, 5)


def test_a_classifier_without_classes_explains_and_does_not_predict(tmp_path: Path) -> None:
    torchbcos.save(made("cifar10_resnet20", num_classes=0), tmp_path / "bare")
    classifier = torchbcos.load(tmp_path / "bare", device="cpu")
    picture = torch.rand(3, 40, 36)
    e = classifier.explain(picture, targets=5)
    assert classifier.class_names == () and float(e.residual.abs().max()) < 1e-5
    assert e.panel().width > 100
    with pytest.raises(InputError, match=r"This network has no classes \(num_classes=0\): it returns features"):
        classifier.predict(picture)


# -- what stands around the border -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "padding_mode"),
    [
        *((*row, "replicate") for row in SMALL if not row[0].startswith(("simple_vit", "bvt", "bwin"))),
        (*SMALL[1], "reflect"),
        (*SMALL[8], "circular"),
    ],
)
def test_another_padding_is_exact_and_not_the_usual_one(name: str, options: dict[str, Any], padding_mode: str) -> None:
    net = made(name, num_classes=3, padding_mode=padding_mode, **options).double()
    x = torch.rand(2, net.in_channels, 64, 64, dtype=torch.float64)
    torchbcos.recalibrate(net, [x])
    e = torchbcos.explain(net, x)
    assert float(e.residual.abs().max()) < 1e-8 * max(1.0, float(e.values.abs().max()))
    assert net.architecture is not None
    assert net.architecture.options["padding_mode"] == padding_mode
    kinds = {m.padding_mode for m in net.modules() if hasattr(m, "padding_mode")}
    assert kinds == {padding_mode}
    zeros = made(name, num_classes=3, **options).double()
    zeros.load_state_dict(net.state_dict())
    assert not torch.allclose(zeros.eval()(x), net(x))  # the weights alone would give other numbers


def test_replicate_leaves_a_constant_picture_constant() -> None:
    """No ring: where every pixel is the same, so is every feature, in the pooling of the stem, too."""
    grey = torch.full((1, 6, 64, 64), 0.5, dtype=torch.float64)
    for padding_mode, flat in (("replicate", True), ("zeros", False)):
        net = made("resnet18", width_factor=0.125, padding_mode=padding_mode, num_classes=2).double()
        torchbcos.recalibrate(net, [torch.rand(2, 6, 64, 64, dtype=torch.float64)])
        for features in net.eval().forward_stages(grey)[:3]:
            spread = float((features.detach() - features.detach()[..., :1, :1]).abs().max())
            assert (spread < 1e-12) == flat


def test_padding_goes_into_the_card_and_typing_errors_are_named(tmp_path: Path) -> None:
    net = made("cifar10_resnet20", num_classes=3, padding_mode="replicate")
    torchbcos.save(net, tmp_path)
    loaded = torchbcos.load(tmp_path, device="cpu")
    x = torch.rand(2, 6, 32, 32)
    assert loaded.card.options["padding_mode"] == "replicate"
    torch.testing.assert_close(loaded.model(x), net(x))  # deployed: norms are folded
    with pytest.raises(InputError, match=r"padding_mode must be one of zeros, .*, circular, not 'replicat'\. Did you"):
        made("resnet18", padding_mode="replicat")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11_bnu", "convnext_atto", "vitc_ti_patch1_14", "bwin_tiny"])
def test_activations_filters_as_they_are_and_a_normalised_input_are_explained(name: str) -> None:
    """Of every family: exact, with the pixels carrying all that no position carries; and each layer is as it was asked for."""
    narrow = {} if name.startswith("vit") else {"width_factor": 0.05}
    options = {"activation": "relu", "unit_norm": False, "normalize": "imagenet", "logit_bias": None, **narrow}
    net = made(name, num_classes=3, **options).double()
    x = torchbcos.functional.add_inverse(torch.rand(1, 3, 32, 32, dtype=torch.float64))
    e = torchbcos.explain(net, x, verify=True)
    assert bool(e.complete.all()) and set(e.constants) <= {"positional_embedding.position"}
    assert {m.unit_norm for m in net.modules() if isinstance(m, FilterLayer)} == {False}
    assert any(isinstance(m, bnn.ReLU) for m in net.modules()) and isinstance(net.normalize, bnn.NormalizeEncoded)
    assert torch.allclose(torchbcos.deploy(net)(x), net(x), rtol=1e-6, atol=1e-12)


def test_a_plain_twin_has_the_activation_that_is_asked_for() -> None:
    with torch.device("meta"):
        usual, other = (build("cifar10_resnet20", plain=True, **more) for more in ({}, {"activation": "gelu"}))
    kinds = [{type(m) for m in net.modules()} & {bnn.ReLU, bnn.GELU} for net in (usual, other)]
    assert kinds == [{bnn.ReLU}, {bnn.GELU}]
