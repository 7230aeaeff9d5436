"""What may be cut: groups of whole networks and of small ones, and the reason why the rest may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.models import build
from torchbcos.search import Group, Pruner, find_groups

STREAM = "its channels are added to others (a residual stream)"


def names(groups: list[Group]) -> list[str]:
    return [group.name for group in groups]


def check_groups(network: nn.Module) -> tuple[dict[str, Group], dict[str, str]]:
    """The groups by name: sizes and readers are true, and nothing is both cut and left."""
    groups, left = find_groups(network)
    found = {group.name: group for group in groups}
    assert len(found) == len(groups) and not set(found) & set(left)
    for group in groups:
        maker: Any = network.get_submodule(group.name)
        size = maker.heads if group.heads else maker.weight.shape[0] // getattr(maker, "max_out", 1)
        assert group.size == size and len(group.readers) >= 1
        for name in group.readers:
            reader: Any = network.get_submodule(name)
            assert reader.weight.shape[1] == group.size * (maker.head_dim if group.heads else 1)
        for name in group.between:
            norm: Any = network.get_submodule(name)
            assert group.size == (norm.out_channels if isinstance(norm, nn.Conv2d | bnn.BcosConv2d) else norm.num_features)
    return found, left


# -- whole networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
def test_bottlenecks_lose_their_inner_channels_and_never_the_stream(plain: bool) -> None:
    found, left = check_groups(build("resnet50", width_factor=0.125, num_classes=3, plain=plain))
    blocks = [f"layer{stage}.{i}" for stage, depth in enumerate((3, 4, 6, 3), 1) for i in range(depth)]
    inner = {f"{block}.conv{i}" for block in blocks for i in (1, 2)}
    stream = {f"{block}.conv3" for block in blocks} | {f"layer{stage}.0.downsample.0" for stage in range(1, 5)}
    assert set(found) == inner | {"conv1"}  # the stem: the first block has a layer on its shortcut
    assert found["conv1"].readers == ("layer1.0.conv1", "layer1.0.downsample.0") and found["conv1"].between == ("bn1",)
    for block in blocks:
        for i in (1, 2):
            one = found[f"{block}.conv{i}"]
            assert one.between == (f"{block}.bn{i}",) and one.readers == (f"{block}.conv{i + 1}",)
    assert {name for name, why in left.items() if why == STREAM} == stream
    assert set(left) == stream | {"fc"}


def test_the_stem_of_a_resnet18_is_the_stream() -> None:
    found, left = check_groups(build("resnet18", width_factor=0.125, num_classes=3))
    assert left["conv1"] == STREAM and "conv1" not in found and len(found) == 8


def test_dense_connections_are_left_alone() -> None:
    found, left = check_groups(build("densenet121", width_factor=0.25, num_classes=3))
    inner = {f"features.denseblock{b}.denselayer{i}.conv1" for b, n in enumerate((6, 12, 24, 16), 1) for i in range(1, n + 1)}
    assert set(found) == inner
    joined = {name.replace("conv1", "conv2") for name in inner}
    assert joined | {"features.conv0"} <= {name for name, why in left.items() if why == "its channels go into cat"}


def test_transformers_lose_heads_and_hidden_channels() -> None:
    found, left = check_groups(build("bvt_tiny_patch8", depth=2, num_classes=3))
    blocks = [f"transformer.encoder_{i}" for i in range(2)]
    assert set(found) == {f"{block}.{part}" for block in blocks for part in ("attn", "ff.net.linear1")}
    heads = found["transformer.encoder_1.attn"]
    assert heads == Group("transformer.encoder_1.attn", 3, (), ("transformer.encoder_1.attn.to_out",), heads=True)
    assert left["transformer.encoder_0.ff.net.linear2"] == STREAM
    one = bnn.Attention(8, 1, head_dim=8)
    assert find_groups(nn.Sequential(one, one.norm or nn.Identity())) == ([], {})  # one head stays


def test_heads_with_tables_are_left_alone() -> None:
    found, left = check_groups(build("swin_tiny", width_factor=0.25, num_classes=3))
    tables = [name for name, why in left.items() if why == "the heads of a WindowAttention have tables of their own"]
    assert len(tables) == 12 == len(found) and {name.rsplit(".", 1)[-1] for name in found} == {"linear1"}


def test_vgg_and_two_stages() -> None:
    found, left = check_groups(build("vgg11_bnu", width_factor=0.125, num_classes=3))
    assert len(found) == 10 and found["features.0"].between == ("features.1",) and found["features.0"].readers == ("features.3",)
    assert left == {"classifier.2": "its channels go into flatten"}
    found, _ = check_groups(build("two_stage_nano", depth=1, depth_where=1, num_classes=3))
    assert [name.split(".")[0] for name in found] == ["where", "where", "what", "what"]


# -- small networks ------------------------------------------------------------------------------------------------------------


class Way(nn.Module):
    """Some layers, and a function that says how they are called."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.way = way
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def pair(way: Callable[[Any, Tensor], Tensor], inputs: int = 8, **more: nn.Module) -> Way:
    """Layers a, of eight channels, and b, that reads some."""
    return Way(way, a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Conv2d(inputs, 4, 1), **more)


def test_mobile_blocks_lose_channels_of_their_depthwise_layers_too() -> None:
    for conv in (nn.Conv2d, bnn.BcosConv2d, bnn.Conv2d):
        layers = {"deep": conv(8, 8, 3, padding=1, groups=8), "norm": nn.BatchNorm2d(8), "norm2": nn.BatchNorm2d(8)}
        network = pair(lambda s, x: s.b(F.relu6(s.norm2(s.deep(F.relu6(s.norm(s.a(x))))))), **layers)
        found, left = check_groups(network)
        assert found == {"a": Group("a", 8, ("norm", "deep", "norm2"), ("b",))} and set(left) == {"b"}
        x = torch.rand(4, 3, 5, 5)
        small: Any = Pruner(network.eval(), x).build([4])
        assert small(x).shape == (4, 4, 5, 5) and small.deep.groups == small.deep.weight.shape[0] == 4


@pytest.mark.parametrize(
    "way",
    [
        lambda s, x: s.b(F.relu(s.a(x))),
        lambda s, x: s.b(torch.relu(s.a(x)).contiguous()),
        lambda s, x: s.b(F.max_pool2d(F.dropout(s.a(x), 0.5, s.training), 2)),
        lambda s, x: s.b(s.act(s.a(x))),
        lambda s, x: s.act(s.b(s.act(s.a(x)))),  # an activation may be shared
        lambda s, x: s.b(s.drop(F.gelu(s.a(x)))) * 2,
        lambda s, x: s.b(s.blur(s.a(x))),
    ],
)
def test_what_leaves_channels_apart_is_passed(way: Callable[[Any, Tensor], Tensor]) -> None:
    found, _ = check_groups(pair(way, act=nn.SiLU(), drop=nn.Dropout2d(), blur=bnn.LowPass()))
    assert found["a"] == Group("a", 8, (), ("b",))


def test_all_readers_of_a_branch_are_found() -> None:
    network = pair(lambda s, x: s.b(y := s.norm(s.a(x))) + s.c(F.relu(y)), norm=nn.BatchNorm2d(8), c=nn.Conv2d(8, 4, 1))
    found, left = check_groups(network)
    assert found["a"] == Group("a", 8, ("norm",), ("b", "c")) and left == {"b": STREAM, "c": STREAM}
    x = torch.rand(4, 3, 5, 5)
    assert Pruner(network.eval(), x).build([4])(x).shape == (4, 4, 5, 5)


WHY: list[tuple[Callable[[Any, Tensor], Tensor], int, str]] = [
    (lambda s, x: s.b(y := s.a(x)) + y[:, :4], 8, "its channels go into getitem"),
    (lambda s, x: s.b((y := s.a(x)) + y.relu()), 8, STREAM),
    (lambda s, x: s.b(torch.cat([s.a(x), x], 1)), 11, "its channels go into cat"),
    (lambda s, x: s.b((y := s.a(x)) * y.sigmoid()), 8, "its channels go into mul"),
    (lambda s, x: s.b(F.softmax(s.a(x), 1)), 8, "its channels go into softmax"),
    (lambda s, x: s.b(s.mix(s.a(x))), 8, "a GroupNorm reads its channels"),
    (lambda s, x: s.b(s.shuffle(s.a(x))), 2, "a PixelShuffle reads its channels"),
    (lambda s, x: s.b(s.groups(s.a(x))), 8, "'groups' is a convolution in groups"),
    (lambda s, x: s.line(s.a(x)).flatten(1), 8, "'line' reads its channels along another axis"),
    (lambda s, x: s.b(s.a(x.flip(1))) + s.b2(s.a(x)), 8, "it is called several times"),
    (lambda s, x: s.b(y := s.a(x)) + s.b(y.flip(0)), 8, "'b' is called several times"),
    (lambda s, x: s.b(s.norm(s.a(x))) + s.b2(s.norm(x.repeat(1, 3, 1, 1)[:, :8])), 8, "'norm' is called several times"),
    (lambda s, x: s.a(x), 8, "its channels leave the network"),
    (lambda s, x: s.b(y := s.a(x)).sum() + y, 8, STREAM),
]


@pytest.mark.parametrize(("way", "inputs", "why"), WHY)
def test_what_mixes_channels_is_left_alone_and_said(way: Callable[[Any, Tensor], Tensor], inputs: int, why: str) -> None:
    more = {
        "mix": nn.GroupNorm(2, 8), "shuffle": nn.PixelShuffle(2), "groups": nn.Conv2d(8, 8, 1, groups=2), "line": nn.Linear(6, 2),
        "norm": nn.BatchNorm2d(8), "b2": nn.Conv2d(8, 4, 1),
    }  # fmt: skip
    network = pair(way, inputs, **more).eval()
    network(torch.rand(2, 3, 6, 6))  # the network is a network
    found, left = check_groups(network)
    assert "a" not in found and left["a"].startswith(why)


def test_tokens_and_maps() -> None:
    tokens = Way(lambda s, x: s.c(s.b(F.gelu(s.a(x)))), a=nn.Linear(3, 8), b=nn.Linear(8, 8), c=bnn.BcosLinear(8, 2))
    assert set(check_groups(tokens)[0]) == {"a", "b"}
    rows = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    assert check_groups(rows)[0] == {"0": Group("0", 8, ("1",), ("3",))}


@pytest.mark.parametrize(
    ("between", "shape"), [(nn.MaxPool2d((1, 2)), (2, 5, 5, 3)), (nn.BatchNorm1d(5), (4, 5, 3)), (bnn.LowPass(), (2, 5, 5, 3))]
)
def test_what_stands_between_linear_layers_and_does_not_know_that_channels_are_last(
    between: nn.Module, shape: tuple[int, ...]
) -> None:  # fmt: skip
    """A pool and a norm take the second axis for that of channels: what may be cut is left, or can be built."""
    wide = 4 if not isinstance(between, nn.BatchNorm1d) else 8
    network = nn.Sequential(nn.Linear(3, 8), between, nn.Linear(wide, 2)).eval()
    x = torch.rand(*shape)
    network(x)
    groups, _ = find_groups(network)
    assert groups == [] or Pruner(network, x).build([4])(x).shape == network(x).shape


# -- where the graph cannot be followed ----------------------------------------------------------------------------------------


def crooked(*layers: nn.Module) -> Way:
    """A network that torch.fx cannot follow."""
    return Way(lambda s, x: s.inner(x) if float(x.sum()) > -1e9 else x, inner=nn.Sequential(*layers))


def test_a_network_that_cannot_be_followed_is_cut_inside_its_sequences() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Dropout(), nn.Conv2d(6, 4, 1, groups=2)]
    network = crooked(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), bnn.BcosLinear(8, 2))
    found, left = check_groups(network)
    assert list(found.values()) == [Group("inner.0", 8, ("inner.1",), ("inner.3",)), Group("inner.8", 8, (), ("inner.10",))]
    assert left[""].startswith("torch.fx cannot follow the network: ")
    x = torch.rand(8, 3, 6, 6)
    small = Pruner(network.eval(), x).build([4, 4])
    assert small(x).shape == (8, 2) and small.get_submodule("inner.3").in_channels == 4
    deep = crooked(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    assert check_groups(deep)[0] == {"inner.0": Group("inner.0", 8, ("inner.1",), ("inner.3",))}
    assert check_groups(crooked(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1)))[0] == {}
    assert check_groups(crooked(nn.Conv2d(3, 8, 1), nn.Linear(8, 8)))[0] == {}


def test_a_sequence_whose_steps_are_called_one_by_one_is_no_chain() -> None:
    """The graph says that the first layer's channels are added to others; that it has a neighbour says nothing."""

    def way(s: Any, x: Tensor) -> Tensor:
        y = s.inner[0](x)
        out: Tensor = y + s.inner[2](s.inner[1](y))
        return out

    network = Way(way, inner=nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)))
    found, left = check_groups(network)
    assert found == {} and left["inner.0"] == STREAM


def test_layers_that_stand_at_several_places_are_refused() -> None:
    twice, act = nn.Conv2d(8, 8, 1), nn.ReLU()
    found, left = check_groups(nn.Sequential(nn.Conv2d(3, 8, 1), act, twice, act, twice, act, nn.Conv2d(8, 2, 1)))
    assert found == {} and {"0", "2"} <= set(left)
    found, left = check_groups(crooked(nn.Conv2d(3, 8, 1), act, twice, act, twice, act, nn.Conv2d(8, 2, 1)))
    assert found == {} and left["inner.0"] == "'inner.2' stands at several places"
    shared = bnn.Attention(8, 2, head_dim=4)
    found, left = check_groups(Way(lambda s, x: s.two(s.one(x)), one=shared, two=shared))
    assert found == {} and left["one"] == "'one.to_out' stands at several places"


def test_two_layers_with_one_weight_are_left_alone() -> None:
    network = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    network[2].weight = network[0].weight  # type: ignore[union-attr]
    assert find_groups(network)[0] == []


def test_a_weight_that_is_read_elsewhere_is_left_alone() -> None:
    network = Way(lambda s, x: F.linear(s.b(F.relu(s.a(x))), s.a.weight), a=nn.Linear(4, 8), b=nn.Linear(8, 4))
    found, left = check_groups(network)
    assert found == {} and "a" in left


def test_what_never_runs_does_not_stop_what_does() -> None:
    """Auxiliary classifiers run in training alone."""
    aux = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    network = pair(lambda s, x: s.b(F.relu(s.a(x))) + (s.aux(s.a(x)) if s.training else 0), aux=aux).eval()
    x = torch.rand(8, 3, 4, 4)
    pruner = Pruner(network, x)
    assert "a" in names(pruner.groups) and pruner.build([4] * len(pruner.groups))(x).shape == (8, 4, 4, 4)


@pytest.mark.parametrize("kind", [nn.Conv2d, bnn.BcosConv2d])
def test_layers_of_somebodys_own_kind_are_cut_or_left(kind: type[nn.Module]) -> None:
    own = type("Own", (kind,), {})
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), own(8, 8, 1), nn.Conv2d(8, 2, 1)).eval()
    x = torch.rand(8, 3, 4, 4)
    groups, left = find_groups(network)
    assert "0" in left or Pruner(network, x).build([4] * len(groups))(x).shape == (8, 2, 4, 4)


def test_groups_come_as_they_are_computed() -> None:
    network = Way(lambda s, x: s.a(s.b(s.c(x))), a=nn.Conv2d(8, 2, 1), b=nn.Conv2d(8, 8, 1), c=nn.Conv2d(3, 8, 1))
    assert names(find_groups(network)[0]) == ["c", "b"]
