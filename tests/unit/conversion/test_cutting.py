"""Cuts: what is left of each kind of layer, what a network remembers of it, and cards that say nonsense."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.conversion import Cut, cut_to_size, cuts_from, mark_cut, pruned_of
from torchbcos.conversion.cutting import take_heads, take_inputs, take_outputs
from torchbcos.models import build

KINDS: dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]] = {
    "conv1": (nn.Conv1d, {"kernel_size": 1}, (4,)),
    "conv2": (nn.Conv2d, {"kernel_size": 1}, (3, 3)),
    "conv3": (nn.Conv3d, {"kernel_size": 1, "bias": False}, (2, 2, 2)),
    "bcos1": (bnn.BcosConv1d, {"kernel_size": 1}, (4,)),
    "bcos2": (bnn.BcosConv2d, {"kernel_size": 1, "max_out": 2}, (3, 3)),
    "bcos3": (bnn.BcosConv3d, {"kernel_size": 1, "b": 1.5}, (2, 2, 2)),
    "linear": (nn.Linear, {}, ()),
    "bcos linear": (bnn.BcosLinear, {"max_out": 3}, ()),
}
KEPT = st.lists(st.integers(0, 5), unique=True, min_size=1)
SIZES = st.dictionaries(st.sampled_from(["outputs", "inputs", "heads"]), st.integers(1, 1_000_000))


def made(kind: str, inputs: int = 6, outputs: int = 6) -> tuple[Any, Tensor]:
    layer, options, space = KINDS[kind]
    torch.manual_seed(0)
    return layer(inputs, outputs, **options).double().eval(), torch.randn(2, inputs, *space, dtype=torch.float64)


# -- layers --------------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(kind=st.sampled_from(list(KINDS)), kept=KEPT)
def test_outputs_that_stay_are_as_they_were(kind: str, kept: list[int]) -> None:
    layer, x = made(kind)
    before = layer(x)
    take_outputs(layer, kept)
    torch.testing.assert_close(layer(x), before[:, kept])
    assert [p.requires_grad for p in layer.parameters()] == [True] * len(list(layer.parameters()))
    fresh, _ = made(kind, outputs=len(kept))
    assert repr(layer) == repr(fresh)  # sizes that it says it has


@settings(max_examples=40)
@given(kind=st.sampled_from(list(KINDS)), kept=KEPT)
def test_inputs_that_go_are_zeros(kind: str, kept: list[int]) -> None:
    layer, x = made(kind)
    if hasattr(layer, "unit_norm"):
        layer.unit_norm = False  # else what is left of a filter is made longer
    zeros = torch.zeros_like(x)
    zeros[:, kept] = x[:, kept]
    before = layer(zeros)
    take_inputs(layer, kept)
    torch.testing.assert_close(layer(x[:, kept]), before)
    fresh, _ = made(kind, inputs=len(kept))
    assert [p.shape for p in layer.parameters()] == [p.shape for p in fresh.parameters()]


@given(kept=KEPT, bcos=st.booleans(), wide=st.booleans())
def test_norms_and_depthwise_layers_lose_inputs_and_outputs(kept: list[int], bcos: bool, wide: bool) -> None:
    torch.manual_seed(1)
    norm: Any = bnn.BatchNorm(6, bias=True) if bcos else nn.BatchNorm2d(6, affine=wide)
    deep: Any = (bnn.BcosConv2d if bcos else nn.Conv2d)(6, 6, 3 if wide else 1, groups=6)
    x = torch.randn(3, 6, 4, 4)
    norm.train()(x)
    with torch.no_grad():
        for p in norm.parameters():
            nn.init.normal_(p)
    for layer in (norm.eval(), deep.eval()):
        before = layer(x)
        take_outputs(layer, kept)
        torch.testing.assert_close(layer(x[:, kept]), before[:, kept])
    assert norm.num_features == len(kept) == deep.in_channels == deep.groups
    torch.testing.assert_close(norm.train()(x[:, kept]).shape, x[:, kept].shape)  # statistics have the size, too


@given(kept=st.lists(st.integers(0, 3), unique=True, min_size=1), bcos=st.booleans())
def test_heads_that_stay_are_as_they_were(kept: list[int], bcos: bool) -> None:
    torch.manual_seed(0)
    attention = bnn.Attention(8, 4, head_dim=3, to_qkv=bnn.BcosLinear(8, 36) if bcos else None).double().eval()
    attention.to_out.unit_norm = False  # type: ignore[assignment]
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    other = copy.deepcopy(attention)
    stays = torch.zeros(4).index_fill(0, torch.tensor(kept), 1).repeat_interleave(3)
    other.to_out.register_forward_pre_hook(lambda _, args: (args[0] * stays,))
    take_heads(attention, kept)
    torch.testing.assert_close(attention(x), other(x))
    assert attention.heads == len(kept) and f"heads={len(kept)}" in repr(attention)


@pytest.mark.parametrize(
    ("take", "layer", "kept", "text"),
    [
        (take_outputs, nn.Linear(3, 4), [4], "it has 4 channels or heads, and 1 of them, up to number 4, are to stay"),
        (take_outputs, nn.Linear(3, 4), [-1], "it has 4 channels"),
        (take_outputs, nn.Linear(3, 4), [], "and 0 of them"),
        (take_outputs, nn.Conv2d(3, 4, 1), [1, 1], "and 2 of them, up to number 1"),
        (take_outputs, nn.Conv2d(4, 4, 1, groups=2), [0], "a convolution in groups, each of several channels, is not cut"),
        (take_outputs, nn.Conv2d(4, 8, 1, groups=4), [0], "a convolution in groups"),
        (take_outputs, nn.ReLU(), [0], "a ReLU has no channels that can be cut"),
        (take_outputs, nn.BatchNorm2d(4), [5], "it has 4 channels"),
        (take_inputs, nn.Linear(3, 4), [3], "it has 3 channels"),
        (take_inputs, nn.Conv2d(4, 4, 1, groups=4), [0], "a Conv2d has no input channels that can be cut"),
        (take_inputs, nn.BatchNorm2d(4), [0], "a BatchNorm2d has no input channels that can be cut"),
        (take_heads, nn.Linear(3, 4), [0], "a Linear has no heads that can be cut"),
        (take_heads, bnn.Attention(4, 2, head_dim=2), [2], "it has 2 channels or heads"),
    ],
)
def test_what_cannot_be_cut_is_refused_and_stays(take: Any, layer: nn.Module, kept: list[int], text: str) -> None:
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(InputError, match=text):
        take(layer, kept)
    assert [name for name, value in layer.state_dict().items() if value.shape != before[name].shape] == []


# -- what a network remembers --------------------------------------------------------------------------------------------------


@given(sizes=st.dictionaries(st.text(min_size=1), SIZES, max_size=4), free=st.booleans())
def test_cuts_come_back_as_they_were_marked(sizes: dict[str, dict[str, int]], free: bool) -> None:
    cuts = {path: Cut(free=free, **size) for path, size in sizes.items()}
    network = mark_cut(nn.Linear(2, 2), cuts)
    assert cuts_from(pruned_of(network)) == cuts
    assert cuts_from(json.loads(json.dumps(pruned_of(network)))) == cuts
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert pruned_of(other) == pruned_of(network)
    assert [value for record in (pruned_of(network) or {}).values() for value in record.values() if not value] == []


def test_a_network_that_was_not_pruned_remembers_nothing() -> None:
    network = nn.Linear(2, 2)
    assert pruned_of(network) is None and cuts_from({}) == {}
    network.pruned = "yes"  # type: ignore[assignment]
    assert pruned_of(network) is None


GARBAGE: list[object] = [
    None, 3, "layer1", [], ["layer1"], {1: {"outputs": 2}}, {"a": None}, {"a": 3}, {"a": []}, {"a": {"outputs": 0}},
    {"a": {"outputs": -1}}, {"a": {"outputs": 1.0}}, {"a": {"outputs": True}}, {"a": {"outputs": "3"}}, {"a": {"outputs": None}},
    {"a": {"outputs": 10**9}}, {"a": {"outputs": float("nan")}}, {"a": {"free": 1}}, {"a": {"free": False}},
    {"a": {"free": "yes"}}, {"a": {"width": 3}}, {"a": {"outputs": 3, "__class__": 1}}, {"a": {3: 3}}, {"a": {"heads": [2]}},
    {str(i): {} for i in range(20_001)},
]  # fmt: skip


@pytest.mark.parametrize("records", GARBAGE, ids=lambda records: repr(records)[:30])
def test_garbage_is_refused(records: object) -> None:
    with pytest.raises(InputError, match=r"no cut that this release knows|are a table of layers") as caught:
        cuts_from(records)
    assert len(str(caught.value)) <= 500


FIELDS = st.sampled_from(["outputs", "inputs", "heads", "free", "a"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FIELDS, inner)),
    max_leaves=6,
)


@given(records=st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_is_cuts_or_refused(records: dict[str, Any]) -> None:
    try:
        found = cuts_from(records)
    except InputError:
        return
    assert {path: cut.to_dict() for path, cut in found.items()} == records


# -- to size -------------------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(
        bnn.BcosConv2d(6, 8, 1), nn.BatchNorm2d(8), bnn.BcosConv2d(8, 4, 1), nn.Identity(), bnn.Attention(8, 4, head_dim=2)
    )


def test_a_fresh_network_gets_its_sizes() -> None:
    cuts = {"0": Cut(outputs=3), "1": Cut(outputs=3), "2": Cut(inputs=3, outputs=2, free=True), "4": Cut(heads=2)}
    cut: Any = cut_to_size(network(), cuts)
    assert cut[0].weight.shape == (3, 6, 1, 1) and cut[0].unit_norm and cut[1].num_features == 3
    assert cut[2].weight.shape == (2, 3, 1, 1) and not cut[2].unit_norm and cut[4].heads == 2
    assert cut[:3](torch.rand(2, 6, 4, 4)).shape == (2, 2, 4, 4) and cut[4](torch.rand(1, 3, 8)).shape == (1, 3, 8)
    assert cuts_from(pruned_of(cut)) == cuts
    with torch.device("meta"):
        empty: Any = cut_to_size(network(), cuts)
    assert [(p.shape, p.device.type) for p in empty.parameters()] == [(p.shape, "meta") for p in cut.parameters()]
    assert [b.shape for b in empty.buffers()] == [b.shape for b in cut.buffers()]


@pytest.mark.parametrize(
    ("cuts", "text"),
    [
        ({"9": Cut(outputs=2)}, "has no layer '9', of which its card says it was pruned"),
        ({"0.weight": Cut(outputs=2)}, "has no layer '0.weight'"),
        ({"0": Cut(outputs=9)}, "The layer '0' was not pruned like that: it has 8 channels or heads, and 9 of them"),
        ({"0": Cut(inputs=7)}, "The layer '0' was not pruned like that: it has 6 channels"),
        ({"1": Cut(inputs=2)}, "The layer '1' was not pruned like that: a BatchNorm2d has no input channels"),
        ({"3": Cut(outputs=2)}, "The layer '3' was not pruned like that: a Identity has no channels"),
        ({"0": Cut(heads=2)}, "The layer '0' was not pruned like that: a BcosConv2d has no heads"),
        ({"4": Cut(heads=5)}, "The layer '4' was not pruned like that: it has 4 channels or heads"),
        ({"": Cut(outputs=2)}, "The layer '' was not pruned like that: a Sequential has no channels"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(cuts: dict[str, Cut], text: str) -> None:
    with pytest.raises(StateError, match=text):
        cut_to_size(network(), cuts)


def test_a_card_that_says_other_sizes_than_its_weights_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("vgg11", width_factor=0.125, num_classes=3).eval()
    cuts = {"features.0": Cut(outputs=5), "features.3": Cut(inputs=5)}
    torchbcos.save(cut_to_size(model, cuts), tmp_path / "m")
    x = torch.rand(1, 6, 32, 32)
    torch.testing.assert_close(torchbcos.load(tmp_path / "m", deploy=False).model(x), model(x))
    card = tmp_path / "m" / "card.json"
    given_ = json.loads(card.read_text("utf-8"))
    assert given_["pruned"] == {"features.0": {"outputs": 5}, "features.3": {"inputs": 5}}
    for wrong in (
        {"features.0": {"outputs": 6}, "features.3": {"inputs": 6}}, {"features.0": {"outputs": 5}}, {}, None,
        {"features.0": {"outputs": 0}}, {"nowhere": {"outputs": 5}}, {"features.0": {"heads": 2}}, [1],
    ):  # fmt: skip
        card.write_text(json.dumps({**given_, "pruned": wrong}), "utf-8")
        with pytest.raises(BcosError):
            torchbcos.load(tmp_path / "m")
