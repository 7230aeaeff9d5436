"""Sequences as data: what a layer is, is read back from its attributes, and built again the same."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, WeightsError
from torchbcos.zoo import Classifier
from torchbcos.zoo.saveable import check_same
from torchbcos.zoo.sequential import _KINDS, build_sequential, describe_sequential, known_layers

OURS = sorted(name for name in known_layers() if not name.startswith("torch."))
BASES = {"Residual", "Layer", "Norm"}  # which are no layers themselves
NO_SETTINGS = {"args", "device", "dtype", "init"}  # where and how numbers begin
FLAGS, EPS = st.booleans(), st.sampled_from([1e-5, 1e-3, 0.1])


@st.composite
def conv(draw: st.DrawFn, axes: int, plain: bool = False) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 2]))
    size = st.integers(1, 3) | st.tuples(*[st.integers(1, 3)] * axes)
    found = {
        "in_channels": 2 * groups, "out_channels": 4, "groups": groups, "kernel_size": draw(size), "stride": draw(size),
        "dilation": draw(size), "padding": draw(st.sampled_from(["valid", 0, 1, (2,) * axes])),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect"])),
    }  # fmt: skip
    if plain:
        return {**found, "bias": draw(FLAGS)}
    return {
        **found, "max_out": draw(st.integers(1, 2)), "unit_norm": draw(FLAGS), "eps": draw(EPS), **draw(exponent()),
        "scale": draw(st.sampled_from([None, 2.5])),
    }  # fmt: skip


@st.composite
def exponent(draw: st.DrawFn) -> dict[str, Any]:
    return {"b": draw(st.sampled_from([1.0, 1.5, 2.0, 3.0])), "learnable_b": draw(FLAGS)}


@st.composite
def norm(draw: st.DrawFn) -> dict[str, Any]:
    return {"num_features": 4, "eps": draw(EPS), "centered": draw(FLAGS), "affine": draw(FLAGS), "bias": draw(FLAGS)}


@st.composite
def batch_norm(draw: st.DrawFn) -> dict[str, Any]:
    return {**draw(norm()), "momentum": draw(st.sampled_from([None, 0.1, 0.3])), "sync": draw(FLAGS)}


@st.composite
def attention(draw: st.DrawFn) -> dict[str, Any]:
    part = st.sampled_from([None, bnn.TokenNorm(8), nn.Sequential(bnn.TokenNorm(8, bias=False), nn.Identity())])
    out = st.sampled_from([None, bnn.BcosLinear(8, 8, b=1.5), nn.Sequential(bnn.Linear(8, 8))])
    qkv = st.sampled_from([None, bnn.BcosLinear(8, 24, max_out=2)])
    return {"dim": 8, "heads": 2, "head_dim": 4, "norm": draw(part), "to_out": draw(out), "to_qkv": draw(qkv)}


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    return {**draw(attention()), "window": draw(st.integers(2, 4)), "shift": draw(st.integers(0, 1))}


BIASES = st.sampled_from(["norm", "keep", "drop"])


@st.composite
def biased(draw: st.DrawFn) -> dict[str, Any]:
    found = {"biases": draw(BIASES), "bias": draw(FLAGS), "unit_norm": draw(FLAGS), "eps": draw(EPS), **draw(exponent())}
    return {**found, "bias": found["bias"] and found["biases"] != "drop"}


@st.composite
def bcosified(draw: st.DrawFn, axes: int) -> dict[str, Any]:
    plain = {k: v for k, v in draw(conv(axes, plain=True)).items() if k != "bias"}
    found = {**plain, **draw(biased())}
    if isinstance(found["stride"], int):
        found["antialias"] = draw(FLAGS)
    if found["padding_mode"] == "zeros" and draw(FLAGS):
        found["padding"] = "dynamic"
    return found


@st.composite
def bcosified_norm(draw: st.DrawFn, **more: Any) -> dict[str, Any]:
    rule = draw(BIASES)
    return {
        "num_features": 4,
        "eps": draw(EPS),
        "affine": draw(FLAGS),
        "biases": rule,
        "bias": draw(FLAGS) and rule != "drop",
        **more,
    }


NUMBER_B = st.sampled_from([1.0, 1.5, 2.0])
NUMBER = st.sampled_from([None, -1.5, 2.0])
ARGUMENTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "BcosConv1d": conv(1), "BcosConv2d": conv(2), "BcosConv3d": conv(3), "Conv2d": conv(2, plain=True),
    "BcosLinear": st.builds(lambda a, b: {"in_features": 5, "out_features": 3, **a, **b}, exponent(), st.fixed_dictionaries(
        {"max_out": st.integers(1, 3), "unit_norm": FLAGS, "norm_eps": EPS})),
    "Linear": st.fixed_dictionaries({"in_features": st.just(5), "out_features": st.just(3), "bias": FLAGS}),
    "BatchNorm": batch_norm(), "AllNorm": batch_norm(),
    **dict.fromkeys(("LayerNorm", "InstanceNorm", "PositionNorm", "TokenNorm"), norm()),
    "GroupNorm": norm().map(lambda found: {"num_groups": 2, **found}),
    "Attention": attention(), "SinCosPosition2d": st.fixed_dictionaries({"dim": st.just(8), "temperature": EPS}),
    "WindowAttention": windows(),
    "Similarity": st.fixed_dictionaries({
        "features": st.just(5), "count": st.just(4), "places": st.integers(0, 2), "b": NUMBER_B,
    }),
    "Prototypes": st.fixed_dictionaries({
        "features": st.just(5), "num_classes": st.just(3), "per_class": st.integers(1, 2), "places": st.integers(0, 2),
        "b": NUMBER_B,
    }),
    "Logits": st.fixed_dictionaries({"bias": NUMBER, "temperature": st.sampled_from([None, 3.0])}),
    "LowPass": st.fixed_dictionaries({"stride": st.integers(1, 3)}), "AddInverse": st.fixed_dictionaries({"dim": st.just(1)}),
    "Normalize": st.fixed_dictionaries({
        "mean": st.just((0.5, -1.25)), "std": st.just((0.25, 3.0)), "dtype": st.sampled_from([None, "bfloat16", torch.float64]),
    }),
    "Folded": st.fixed_dictionaries({"into": st.just("conv1")}),
    **dict.fromkeys(("GlobalAveragePool", "ReLU", "GELU", "Hardswish"), st.just({})),
    "BcosifiedConv1d": bcosified(1), "BcosifiedConv2d": bcosified(2), "BcosifiedConv3d": bcosified(3),
    "BcosifiedLinear": biased().map(lambda found: {"in_features": 5, "out_features": 3, "norm_eps": 1e-3, **found}),
    **dict.fromkeys(("BcosifiedTokenNorm", "BcosifiedPositionNorm"), bcosified_norm()),
    "BcosifiedShift": st.fixed_dictionaries({"num_features": st.integers(1, 4), "channel_dim": st.sampled_from([1, -1])}),
    "BcosifiedGroupNorm": bcosified_norm(num_groups=2), "BcosifiedBatchNorm": bcosified_norm(momentum=0.3),
    **dict.fromkeys(("Decode", "NormalizeEncoded"), st.just({"mean": (0.5, -1.25), "std": (0.25, 3.0)})),
}  # fmt: skip
TORCHS: list[nn.Module] = [
    nn.Conv1d(2, 4, 3, padding="same"), nn.Conv2d(2, 4, (3, 1), stride=2, bias=False), nn.Conv3d(2, 2, 3, groups=2),
    nn.Linear(3, 2, bias=False), nn.BatchNorm2d(3, affine=False), nn.BatchNorm1d(3, momentum=None, track_running_stats=False),
    nn.InstanceNorm2d(3, affine=True), nn.GroupNorm(2, 4, affine=False), nn.LayerNorm((4, 2), eps=0.1, bias=False),
    nn.LayerNorm(3, elementwise_affine=False), nn.MaxPool2d((2, 3), stride=1, ceil_mode=True), nn.AvgPool1d(2, padding=1),
    nn.AvgPool3d(2, divisor_override=3), nn.AdaptiveAvgPool2d((1, None)), nn.AdaptiveMaxPool1d(2), nn.Dropout2d(0.2),
    nn.ReLU(inplace=True), nn.SiLU(), nn.LeakyReLU(0.3), nn.ELU(0.5), nn.GELU("tanh"), nn.Softplus(2.0, 10.0), nn.PReLU(3),
    nn.Flatten(2, -1), nn.Unflatten(1, (2, 3)), nn.PixelShuffle(2), nn.ZeroPad2d((1, 0, 2, 0)), nn.Identity(), nn.Tanh(),
]  # fmt: skip


def again(network: nn.Module) -> nn.Module:
    """Through JSON, as a card goes."""
    return build_sequential(json.loads(json.dumps(describe_sequential(network))))


def check_again(network: nn.Module) -> None:
    rebuilt = again(network)
    check_same(network, rebuilt)
    check_same(rebuilt, network)
    assert repr(rebuilt) == repr(network)
    assert [(k, v.shape) for k, v in rebuilt.state_dict().items()] == [(k, v.shape) for k, v in network.state_dict().items()]


def test_every_layer_is_in_the_table_with_every_argument() -> None:
    assert set(OURS) == set(bnn.__all__) - BASES == set(ARGUMENTS)
    for name, make in known_layers().items():
        wanted = {p.name for p in inspect.signature(make).parameters.values() if p.kind is not p.VAR_KEYWORD}
        assert wanted - NO_SETTINGS <= set(_KINDS[name].read), name


@pytest.mark.parametrize("name", OURS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_layer_of_ours_is_built_again(name: str, data: st.DataObject) -> None:
    check_again(nn.Sequential(known_layers()[name](**data.draw(ARGUMENTS[name]))))


@pytest.mark.parametrize("layer", TORCHS, ids=repr)
def test_a_layer_of_torchs_is_built_again(layer: nn.Module) -> None:
    check_again(nn.Sequential(nn.Sequential(layer)))


def test_an_argument_that_is_not_read_back_is_noticed() -> None:
    """The checks above can fail: a layer whose exponent or padding the table left out would be another one."""
    for layer, other in (
        (bnn.BcosConv2d(2, 4, 3, b=1.5), bnn.BcosConv2d(2, 4, 3)), (bnn.BcosConv2d(2, 4, 3, padding=1), bnn.BcosConv2d(2, 4, 3)),
        (bnn.BcosLinear(2, 3, norm_eps=0.1), bnn.BcosLinear(2, 3)), (nn.Flatten(2), nn.Flatten()),
    ):  # fmt: skip
        with pytest.raises(InputError, match="load would build another one"):
            check_same(nn.Sequential(layer), nn.Sequential(other))


def test_names_nesting_and_layers_that_stand_twice() -> None:
    norm_ = bnn.BatchNorm(4, centered=False)
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(bnn.BcosConv1d(2, 4, 3), norm_))
    network.add_module("0", nn.Sequential(bnn.BcosConv1d(4, 4, 3), norm_))
    network.add_module("empty", nn.Sequential())
    network.add_module("pool", bnn.GlobalAveragePool())
    found: Any = again(network)
    check_same(network, found)
    assert found.stem[1] is found.get_submodule("0")[1]


# -- laws ------------------------------------------------------------------------------------------------------------------

_CONVS = {1: bnn.BcosConv1d, 2: bnn.BcosConv2d, 3: bnn.BcosConv3d}


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Sequential, int, int]:
    """A sequence with calibrated norms, its axes of space, and channels before encoding."""
    axes, raw, width = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    make = _CONVS[axes]
    middle = draw(
        st.sampled_from(
            [nn.Identity(), bnn.LowPass(), nn.Sequential(make(width, width, 1), bnn.GroupNorm(1, width, centered=False))]
        )
    )
    torch.manual_seed(draw(st.integers(0, 99)))
    network = nn.Sequential(
        make(2 * raw, width, 3, padding=1, **draw(exponent()), max_out=draw(st.integers(1, 2))),
        bnn.BatchNorm(width, centered=draw(FLAGS), bias=draw(FLAGS)), copy.deepcopy(middle), bnn.GlobalAveragePool(),
        bnn.BcosLinear(width, 3), bnn.Logits(bias=-1.0),
    )  # fmt: skip
    torchbcos.recalibrate(network, [torch.rand(4, 2 * raw, *[6] * axes)])
    return network.eval(), axes, raw


@settings(max_examples=8, deadline=None)
@given(made=networks())
def test_saved_and_loaded_it_gives_the_same_numbers(made: tuple[nn.Sequential, int, int], tmp_path_factory: Any) -> None:
    """To the bit, logits and W; 1-D, 2-D and 3-D; and nothing needs a word."""
    network, axes, raw = made
    folder = tmp_path_factory.mktemp("m")
    torchbcos.save(network, folder)
    loaded = torchbcos.load(folder, device="cpu", deploy=False)
    assert (loaded.transform.axes, loaded.transform.raw_channels, len(loaded.class_names)) == (axes, raw, 3)
    x = loaded.transform.encode(torch.rand(2, raw, *[7] * axes), dim=1)
    mine, theirs = torchbcos.explain(network, x), torchbcos.explain(loaded.model, x)
    assert torch.equal(mine.outputs, theirs.outputs) and torch.equal(mine.weights, theirs.weights)
    twin = torchbcos.load(folder, device="cpu")
    torch.testing.assert_close(twin.model(x), mine.outputs, rtol=1e-4, atol=1e-5)
    torchbcos.save(twin, folder)
    assert torch.equal(torchbcos.load(folder, device="cpu").model(x), twin.model(x))


@pytest.mark.parametrize("how", ["sequence", "described", "library"])
def test_a_twin_whose_norm_was_not_folded_comes_back(how: str, tmp_path: Path) -> None:
    """With MaxOut, a negative weight of a norm keeps it out of the filters, which a fresh network cannot know."""
    network: Any
    if how == "library":
        network = torchbcos.create_model("cifar10_resnet20", num_classes=2, max_out=2)
        norm_ = network.bn1
    else:
        norm_ = bnn.BatchNorm(4, centered=False, bias=False)
        second = bnn.BatchNorm(4, centered=False, bias=False)
        network = nn.Sequential(
            bnn.BcosConv2d(6, 4, 3, max_out=2), norm_, bnn.BcosConv2d(4, 4, 3, max_out=2), second, bnn.GlobalAveragePool()
        )
    torchbcos.recalibrate(network, [torch.rand(4, 6, 16, 16)])
    norm_.weight.data[0] = -1
    twin: Any = torchbcos.deploy(network.eval())
    assert any(isinstance(m, bnn.BatchNorm) for m in twin.modules()) and any(isinstance(m, bnn.Folded) for m in twin.modules())
    torchbcos.save(Classifier(twin, Classifier(network).card) if how == "sequence" else twin, tmp_path)
    x = torch.rand(2, 6, 16, 16)
    assert torch.equal(torchbcos.load(tmp_path, device="cpu").model(x), twin(x))


# -- what is refused -------------------------------------------------------------------------------------------------------


class Wider(bnn.BcosConv2d):
    """A layer of somebody's own."""


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Wider(6, 2, 3), "its layer '0' is a Wider, of which no file can tell"),
        (nn.GRU(2, 2), "is a GRU"),
    ],
)
def test_layers_of_no_table_are_named(layer: nn.Module, text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=text) as caught:
        torchbcos.save(nn.Sequential(layer), tmp_path / "m")
    assert "builder='mynets:build'" in str(caught.value) and not (tmp_path / "m").exists()


def changed(how: str) -> nn.Sequential:
    network = nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool())
    conv_: Any = network[0]
    if how == "hook":
        conv_.register_forward_hook(lambda module, args, output: 2 * output)
    elif how == "weight":
        conv_.weight = nn.Parameter(torch.rand(2, 6, 5, 5))
    elif how == "parametrised":
        nn.utils.parametrizations.weight_norm(conv_)
    elif how == "method":
        conv_.compute = functools.partial(bnn.BcosConv2d.compute, conv_)
    else:
        network.scale = 3.0  # type: ignore[assignment]
        network.register_buffer("extra", torch.ones(1))
    return network


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("hook", "a forward hook stands on its layer '0'"), ("weight", "'0.weight' has the shape"),
        ("parametrised", "Parametrized"), ("method", "has a compute of its own"), ("buffer", "'extra' was added"),
    ],
)  # fmt: skip
def test_layers_that_were_changed_are_refused(how: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(BcosError, match=text):
        torchbcos.save(Classifier(changed(how), class_names=("a", "b")), tmp_path / "m")
    assert not (tmp_path / "m").exists()


LAYER = {"layer": "BcosConv2d", "with": {"in_channels": 6, "out_channels": 2, "kernel_size": 3}}
WRONG: list[tuple[Any, str]] = [
    ({}, "the options of a sequence are its layers"),
    ({"layers": [LAYER], "more": 1}, "the options of a sequence are its layers"),
    ({"layers": LAYER}, "'layers' must be a list"),
    ({"layers": ["BcosConv2d"]}, "a layer is written"),
    ({"layers": [{"layer": "os.system", "with": {"command": "touch marker"}}]}, "there is no layer 'os.system'"),
    ({"layers": [{"layer": "torch.Transformer"}]}, "there is no layer 'torch.Transformer'"),
    ({"layers": [{"layer": "Layer"}]}, "there is no layer 'Layer'"),
    ({"layers": [{"layer": ["Logits"]}]}, "there is no layer"),
    ({"layers": [{"layer": "LowPass", "with": {"forward": 1}}]}, "LowPass has no argument 'forward'"),
    ({"layers": [{"layer": "LowPass", "with": {"__class__": 1}}]}, "LowPass has no argument"),
    ({"layers": [{"layer": "torch.ReLU", "with": {"inplace": "yes"}}]}, "has the wrong type"),
    ({"layers": [{"layer": "torch.Linear", "with": {"in_features": 2.5, "out_features": 1}}]}, "has the wrong type"),
    ({"layers": [{"layer": "BcosLinear", "with": {"in_features": 2}}]}, "out_features"),
    ({"layers": [{"layer": "LowPass", "with": {"stride": {"layer": "LowPass"}}}]}, "has the wrong type"),
    ({"layers": [{"layer": "LowPass", "name": "a.b"}]}, "cannot be called 'a.b'"),
    ({"layers": [{"layer": "LowPass", "name": "a"}, {"layer": "LowPass", "name": "a"}]}, "two layers are called 'a'"),
    ({"layers": [{"layer": "again", "with": {"path": "7"}}]}, "that could stand again"),
    ({"layers": [{"layer": "Sequential", "with": {"layers": [{"layer": "again", "with": {"path": "0"}}]}}]}, "stand again"),
    ({"layers": [{"layer": "LowPass"}] * 10_001}, "more than 10,000 layers"),
    ({"layers": [{"layer": "LowPass", "name": "training"}]}, "no network as its card says"),
    ({"layers": [{"layer": "BcosConv2d", "with": {"in_channels": 9**30, "out_channels": 2, "kernel_size": 3}}]}, "no network"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "text"), WRONG, ids=range(len(WRONG)))
def test_cards_of_strangers_build_nothing_else(options: Any, text: str, tmp_path: Path) -> None:
    torchbcos.save(nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool()), tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "options": options}))
    modules = set(sys.modules)
    with pytest.raises(WeightsError, match=text) as caught:
        torchbcos.load(tmp_path, device="cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500 and set(sys.modules) <= modules
