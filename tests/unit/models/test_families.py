"""Every family, in float64: small networks of the variants that need care, and the first network of each that is registered.

A new family is tested here as soon as it stands in `models/registry.py`.
"""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.functional.position import sin_cos_2d
from torchbcos.models import Network, convnext, densenet, registry, swin, vgg, vit
from torchbcos.models.blocks import Style
from torchbcos.nn.attention import Attention
from torchbcos.nn.position import SinCosPosition2d
from torchbcos.zoo.official import from_official, to_official

DENSE = densenet.DenseNetSizes(depths=(2, 3), growth=4, stem=8)
SMALL_DENSE = densenet.DenseNetSizes(depths=(2, 2), growth=4, stem=8, small=True)
VGG = vgg.VGGSizes(depths=(1, 2), widths=(6, 8), hidden=10)
NEXT = convnext.ConvNeXtSizes(depths=(1, 2), widths=(6, 12))
SIMPLE = vit.ViTSizes(dim=16, heads=2, mlp=24, depth=2, patch=4, head_dim=8)
WINDOWS = swin.SwinSizes(dim=8, depths=(1, 2), heads=(1, 2), patch=2, window=3, mlp=2)
CONV_VIT = vit.ViTSizes(dim=16, heads=2, mlp=24, depth=2, patch=1, stem=(6, 8, 8), head_dim=8)
TOKENS = Style(norm="layer", norm_centered=True)

# name -> build, sizes, B-cos style, activation of the plain twin, options
FAMILIES: dict[str, tuple[Callable[..., Network], Any, Style, str, dict[str, Any]]] = {
    "densenet": (densenet.build, DENSE, Style(), "relu", {}),
    "densenet_small": (densenet.build, SMALL_DENSE, Style(), "relu", {}),
    "vgg": (vgg.build, VGG, Style(norm="none"), "relu", {}),
    "vgg_bnu": (vgg.build, VGG, Style(), "relu", {}),
    "convnext": (convnext.build, NEXT, convnext.POSITION_STYLE, "gelu", {"layer_scale": 0.5}),
    "convnext_bnu": (convnext.build, NEXT, Style(), "gelu", {"layer_scale": 0.5}),
    "simple_vit": (vit.build, SIMPLE, TOKENS, "gelu", {}),
    "vitc": (vit.build, CONV_VIT, TOKENS, "gelu", {}),
    "bvt": (vit.build_aligned, SIMPLE, TOKENS, "gelu", {}),
    "bwin": (swin.build, WINDOWS, TOKENS, "gelu", {}),
    "bvt_prototypes": (vit.build_aligned, SIMPLE, TOKENS, "gelu", {"prototypes": 2}),
}
# the first network of every family, as its file lists them, and narrow where it can be
for family in registry.FAMILIES:
    if len(family.network.axes) != 2:  # surfaces: tests/unit/models/test_surface.py
        continue
    first, sizes = next(iter(family.sizes.items()))
    options = {name: value for name, value in {"width_factor": 0.125, "layer_scale": 0.5}.items() if name in family.options()}
    FAMILIES[first] = family.build, sizes, family.styles.get(first, Style()), family.activation, options
KINDS = ("bcos", "antialias", "plain", "max_out")
SMALL = 16


def side(name: str) -> int:
    """Pixels of a picture for a network of that name: large enough for every registered one, small for the small ones."""
    return 32 if name in registry.names() else SMALL


def images(n: int = 2, channels: int = 6, seed: int = 1, size: int = SMALL) -> Tensor:
    """Encoded random pictures."""
    rgb = torch.rand(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rgb if channels == 3 else torchbcos.functional.add_inverse(rgb)


def make(name: str, kind: str = "bcos", **more: Any) -> Network:
    """A small network whose norms have seen pictures, in eval mode."""
    return copy.deepcopy(made(name, kind, tuple(more.items())))


@functools.cache
def made(name: str, kind: str, more: tuple[tuple[str, Any], ...]) -> Network:
    """`make`, once for each network."""
    build, sizes, style, activation, options = FAMILIES[name]
    changes = {"antialias": kind == "antialias", "max_out": 2 if kind == "max_out" else 1}
    style = Style(**{**vars(style), **changes})
    torch.manual_seed(0)
    plain = kind == "plain"
    channels = 3 if plain else 6
    style = style.as_plain(activation) if plain else style
    model = build(sizes, style, num_classes=5, in_channels=channels, **options, **dict(more)).double().train()
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if parameter_name.endswith("bias"):
                p.normal_(0, 0.1)
        if name in registry.names():
            torchbcos.recalibrate(model, [images(8, channels, seed=10 + i, size=side(name)) for i in range(3)])
        for i in range(0 if name in registry.names() else 30):
            model(images(8, channels, seed=10 + i))
    return model.eval()


def shown_to(model: Network, name: str) -> Tensor:
    """Two pictures for a network."""
    return images(channels=model.in_channels, size=side(name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_explanation_adds_up(name: str, kind: str) -> None:
    model = make(name, kind)
    x = shown_to(model, name)
    before = model(x)
    e = torchbcos.explain(model, x, top_k=2)
    assert e.residual.abs().max() <= 1e-9 * max(1.0, float(e.values.abs().max()))
    assert e.weights.abs().max() > 0 and e.contributions.shape == (2, 2, *x.shape[2:])
    assert torch.equal(before, model(x)) and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_changes_gradients_only(name: str) -> None:
    model = make(name)
    x = shown_to(model, name).requires_grad_()
    live = model(x)
    with torchbcos.frozen():
        held = model(x)
    assert torch.allclose(live, held, rtol=1e-12, atol=0)
    (g_live,) = torch.autograd.grad(live[:, 0].sum(), x)
    (g_held,) = torch.autograd.grad(held[:, 0].sum(), x)
    assert (g_live - g_held).abs().max() > 1e-3 * g_live.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_copies_and_pickles_are_equal(name: str) -> None:
    model = make(name)
    x = shown_to(model, name)
    expected = torchbcos.explain(model, x).weights
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert torch.equal(torchbcos.explain(twin, x).weights, expected)


@pytest.mark.parametrize("kind", ["bcos", "plain"])
@pytest.mark.parametrize("name", FAMILIES)
def test_traced_network_is_the_network(name: str, kind: str) -> None:
    model = make(name, kind)
    x = shown_to(model, name)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x), model(x))
    a, b = torchbcos.explain(model, x, targets=1), torchbcos.explain(traced, x, targets=1)
    assert torch.equal(a.weights, b.weights) and a.constants.keys() == b.constants.keys()
    assert all(torch.equal(a.constants[k], b.constants[k]) for k in a.constants)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_stages_are_as_described(name: str, kind: str) -> None:
    model = make(name, kind)
    x = shown_to(model, name)
    stages = model.forward_stages(x)
    assert len(stages) == len(model.feature_info)
    seen: dict[str, Tensor] = {}
    for info in model.feature_info:
        model.get_submodule(info.name).register_forward_hook(lambda _m, _a, out, place=info.name: seen.__setitem__(place, out))
    assert torch.equal(model.forward_head(model.forward_features(x)), model(x))
    for stage, info in zip(stages, model.feature_info, strict=True):
        cells = x.shape[-1] // info.reduction
        assert stage.shape == ((2, cells, cells, info.channels) if model.channel_dim == -1 else (2, info.channels, cells, cells))
        assert torch.equal(seen[info.name], stage)


@pytest.mark.parametrize("name", FAMILIES)
def test_inner_channels_are_explained(name: str) -> None:
    model = make(name)
    x = shown_to(model, name)
    info = model.feature_info[0]
    e = torchbcos.explain(model, x, targets=info.channels - 1, at=info.name, position=(0, 1))
    stage = model.forward_stages(x)[0]
    value = stage[:, 0, 1, -1] if model.channel_dim == -1 else stage[:, -1, 0, 1]  # torch's own norms round otherwise
    torch.testing.assert_close(e.values[:, 0], value, rtol=1e-12, atol=1e-12)
    assert e.residual.abs().max() <= 1e-9


@pytest.mark.parametrize("kind", ["bcos", "plain"])
@pytest.mark.parametrize("name", FAMILIES)
def test_reset_classifier(name: str, kind: str) -> None:
    model = make(name, kind)
    x = shown_to(model, name)
    features, keys = model.forward_features(x), list(model.state_dict())
    model.reset_classifier(3)
    assert model.num_classes == 3 and model(x).shape == (2, 3) and model(x).dtype == torch.float64
    assert torch.equal(model.forward_features(x), features) and list(model.state_dict()) == keys
    assert model.logits.bias == (None if kind == "plain" else pytest.approx(-0.6931471805599453))
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_deployed_twin_is_the_network(name: str, kind: str) -> None:
    model = make(name, kind)
    x = shown_to(model, name)
    twin = torchbcos.deploy(model)
    assert list(dict(twin.named_modules())) == list(dict(model.named_modules()))
    ours, theirs = torchbcos.explain(twin, x, targets=1), torchbcos.explain(model, x, targets=1)
    assert (ours.outputs - theirs.outputs).abs().max() <= 1e-9 * theirs.outputs.abs().max()
    assert (ours.weights - theirs.weights).abs().max() <= 1e-9 * theirs.weights.abs().max()
    assert ours.constants.keys() == theirs.constants.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_official_keys_come_back(name: str) -> None:
    model = make(name)
    official = to_official(model)
    assert len(official) == len(model.state_dict())
    assert from_official(model, official).keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_have_bias_and_temperature(name: str) -> None:
    plain, warm = make(name, logit_bias=None), make(name, logit_bias=1.0, temperature=2.0)
    x = shown_to(plain, name)
    assert torch.allclose(warm(x), plain(x) / 2 + 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_wrong_inputs_are_named(name: str) -> None:
    model = make(name)
    with pytest.raises(InputError, match=r"Expected 6 channels, got 3 .*RGB is encoded first"):
        model(images(channels=3))
    with pytest.raises(InputError, match=r"Expected a batch of encoded pictures \(N, 6, H, W\)"):
        model(images()[0])
    with pytest.raises(InputError, match="num_classes must be a positive integer, not -1"):
        model.reset_classifier(-1)


SMALLEST = {"densenet": 5, "densenet_small": 2, "vgg": 4, "convnext": 8}


@pytest.mark.parametrize("name", SMALLEST)
def test_smallest_picture(name: str) -> None:
    model, smallest = make(name), SMALLEST[name]
    assert model(torch.rand(1, 6, smallest, smallest, dtype=torch.float64)).shape == (1, 5)
    with pytest.raises(InputError, match=f"needs at least {smallest} x {smallest} pixels"):
        model(torch.rand(1, 6, smallest - 1, 9, dtype=torch.float64))
    one = torch.rand(1, 6, 1, 1, dtype=torch.float64)
    assert make(name, "antialias")(one).shape == (1, 5)


def test_patches_must_divide_the_picture() -> None:
    model = make("simple_vit")
    assert model(torch.rand(1, 6, 8, 20, dtype=torch.float64)).shape == (1, 5)
    with pytest.raises(InputError, match="A picture of 8 x 18 cannot be cut into patches of 4 x 4"):
        model(torch.rand(1, 6, 8, 18, dtype=torch.float64))


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(InputError, match=r"depths must be positive, not \[\]"):
        densenet.build(densenet.DenseNetSizes(depths=()), Style())
    for build, sizes in ((vgg.build, vgg.VGGSizes(depths=(1,))), (convnext.build, convnext.ConvNeXtSizes(depths=(1,)))):
        with pytest.raises(InputError, match="must be equally many and positive"):
            build(sizes, Style())
        with pytest.raises(InputError, match="width_factor must be positive, not 0"):
            build(sizes, Style(), width_factor=0)
    with pytest.raises(InputError, match="All sizes of a transformer must be positive"):
        vit.build(vit.ViTSizes(dim=16, heads=0, mlp=4), TOKENS)


def test_position_is_a_named_constant() -> None:
    e = torchbcos.explain(make("simple_vit"), images(), targets=0)
    assert set(e.constants) == {"positional_embedding.position", "logits.bias"}
    assert e.constants["positional_embedding.position"].abs().min() > 0


def test_queries_and_keys_are_held() -> None:
    layer = Attention(8, 2, head_dim=4).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    with torchbcos.frozen():
        y = layer(x)
    weight = torch.autograd.functional.jacobian(lambda z: _frozen(layer, z), x.detach()).reshape(y.numel(), -1)
    assert torch.allclose(weight @ x.detach().flatten(), y.flatten(), rtol=1e-10)
    with pytest.raises(InputError, match=r"Expected tokens \(N, \*S, 8\), got shape \(5, 8\)"):
        layer(x[0])


def _frozen(layer: nn.Module, x: Tensor) -> Tensor:
    with torchbcos.frozen():
        out: Tensor = layer(x)
    return out


def test_attention_mixes_all_tokens_whatever_their_grid() -> None:
    layer, x = Attention(8, 2, head_dim=4), torch.randn(2, 3, 5, 8)
    assert torch.allclose(layer(x).flatten(1, 2), layer(x.flatten(1, 2)), atol=1e-6)
    with pytest.raises(InputError, match="Sizes must be positive: dim 8, 0 heads"):
        Attention(8, 0)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_position_table(height: int, width: int, quarter: int, seed: int) -> None:
    table = sin_cos_2d(height, width, 4 * quarter, dtype=torch.float64)
    assert table.shape == (height, width, 4 * quarter)
    r, c, i = seed % height, seed % width, seed % quarter
    omega = 10000.0 ** (-i / max(1, quarter - 1))
    expected = torch.tensor([c * omega, c * omega, r * omega, r * omega], dtype=torch.float64)
    expected = torch.stack([expected[0].sin(), expected[1].cos(), expected[2].sin(), expected[3].cos()])
    assert torch.allclose(table[r, c, i::quarter], expected, atol=1e-12)


def test_position_errors() -> None:
    with pytest.raises(InputError, match="dim divisible by 4, not 6"):
        SinCosPosition2d(6)
    with pytest.raises(InputError, match="dim divisible by 4 and a grid of at least 1 x 1, not dim 8 and 0 x 2"):
        sin_cos_2d(0, 2, 8)
    with pytest.raises(InputError, match=r"Expected tokens \(N, H, W, 8\), got shape \(1, 3, 8\)"):
        SinCosPosition2d(8)(torch.zeros(1, 3, 8))


# Parameters of the official networks with 1000 classes (10: CIFAR), as measured.
COUNTS = {
    "densenet121": 7_945_440, "densenet161": 28_584_144, "densenet169": 14_078_688, "densenet201": 19_907_808,
    "cifar10_densenet52": 261_318, "cifar10_densenet100": 757_806, "cifar10_densenet190": 25_498_100,
    "cifar10_densenet250": 15_196_704, "vgg11_bnu": 132_855_872, "convnext_tiny": 28_543_392,
    "convnext_base": 88_466_304, "convnext_tiny_bnu": 28_543_392, "convnext_base_bnu": 88_466_304,
    "simple_vit_ti_patch16_224": 5_800_128, "simple_vit_s_patch16_224": 22_217_088,
    "simple_vit_b_patch16_224": 86_901_504, "simple_vit_l_patch16_224": 178_787_328,
    "vitc_ti_patch1_14": 5_318_712, "vitc_s_patch1_14": 20_878_704, "vitc_b_patch1_14": 81_326_016,
    "vitc_l_patch1_14": 167_444_160,
}  # fmt: skip
# The plain twins: the standard networks of the official zoo, and torchvision's.
PLAIN_COUNTS = {
    "simple_vit_ti_patch16_224": 5_670_184, "simple_vit_s_patch16_224": 21_956_200,
    "simple_vit_b_patch16_224": 86_378_728, "simple_vit_l_patch16_224": 178_104_296,
    "vitc_ti_patch1_14": 5_334_952, "vitc_s_patch1_14": 20_910_184, "vitc_b_patch1_14": 81_388_648,
    "vitc_l_patch1_14": 167_541_352, "densenet121": 7_978_856, "vgg11_bnu": 132_868_840, "vgg16": 138_357_544,
    "convnext_tiny": 28_589_128,
}  # fmt: skip
MODULES = (densenet, vgg, convnext, vit, swin)


def count(name: str, plain: bool) -> int:
    """Parameters of a network by name, without memory for them."""
    module = next(m for m in MODULES if name in m.SIZES)
    style = module.STYLES[name].as_plain() if plain else module.STYLES[name]
    classes = 10 if name.startswith("cifar") else 1000
    with torch.device("meta"):
        model = module.build(module.SIZES[name], style, num_classes=classes, in_channels=3 if plain else 6)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    assert count(name, plain=False) == COUNTS[name]


@pytest.mark.parametrize("name", PLAIN_COUNTS)
def test_parameter_counts_of_plain_twins(name: str) -> None:
    assert count(name, plain=True) == PLAIN_COUNTS[name]


def test_every_name_has_a_style() -> None:
    for module in MODULES:
        assert set(module.SIZES) == set(module.STYLES)


def test_state_keys_are_the_official_ones() -> None:
    dense, conv = set(make("densenet").state_dict()), set(make("convnext").state_dict())
    assert {
        "features.conv0.weight", "features.norm0.running_var", "features.denseblock1.denselayer1.conv1.weight",
        "features.transition1.conv.weight", "features.norm5.weight", "classifier.weight",
    } <= dense  # fmt: skip
    assert {
        "features.0.weight", "features.2.0.layer_scale", "features.2.0.block.3.weight", "features.3.1.weight",
        "classifier.0.weight", "classifier.1.weight",
    } <= conv  # fmt: skip
    for name in ("vgg", "vgg_bnu"):
        keys = {k for k in make(name).state_dict() if k.startswith(("features.0.", "features.3.", "features.5."))}
        assert {"features.0.weight", "features.3.weight", "features.5.weight"} <= keys
    tokens = set(make("vitc").state_dict())
    assert {
        "to_patch_embedding.conv_stem.0.weight", "to_patch_embedding.conv_stem.1.weight",
        "to_patch_embedding.conv_stem.3.weight", "to_patch_embedding.linear.weight",
        "transformer.encoder_0.attn.norm.weight", "transformer.encoder_0.attn.to_qkv.weight",
        "transformer.encoder_0.attn.to_out.weight", "transformer.encoder_1.ff.net.norm.weight",
        "transformer.encoder_1.ff.net.linear1.weight", "transformer.encoder_1.ff.net.linear2.weight",
        "linear_head.norm.weight", "linear_head.linear.weight",
    } <= tokens  # fmt: skip


def test_stochastic_depth_follows_sizes_and_grows() -> None:
    model = convnext.build(NEXT, convnext.POSITION_STYLE)
    rates = [m.p for m in model.modules() if isinstance(m, convnext.StochasticDepth)]
    assert rates == pytest.approx([0.0, 0.05, 0.1])
    assert convnext.SIZES["convnext_base"].stochastic_depth == 0.5
