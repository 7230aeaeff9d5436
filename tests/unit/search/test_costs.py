"""Operations: by shape, as torch counts them, and those of a network that is built with fewer channels."""

from __future__ import annotations

import copy
import functools
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.reference import pruning as slow
from torchbcos import nn as bnn
from torchbcos.models import build
from torchbcos.search import Pruner, count_flops, find_groups
from torchbcos.search.costs import Costs

NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("resnet18", {"width_factor": 0.125}, 32),
    ("resnet18", {"width_factor": 0.125, "plain": True}, 32),
    ("resnet50", {"width_factor": 0.125}, 32),
    ("resnet50", {"width_factor": 0.125, "plain": True}, 32),
    ("densenet121", {"width_factor": 0.25}, 32),
    ("densenet121", {"width_factor": 0.25, "plain": True}, 32),
    ("vgg11_bnu", {"width_factor": 0.125, "max_out": 2}, 32),
    ("vgg11", {"width_factor": 0.125, "plain": True}, 32),
    ("convnext_tiny", {"width_factor": 0.125, "plain": True}, 32),
    ("bvt_tiny_patch8", {"depth": 2}, 32),
    ("vit_tiny_patch8", {"depth": 2}, 32),
]
SEVERAL = pytest.mark.parametrize(("name", "options", "side"), NETWORKS, ids=str)


@functools.cache
def made(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, num_classes=3, **options)


def as_torch_counts(network: nn.Module, x: Tensor) -> float:
    """Of one input: in training mode, where every product is an operation of torch; attention as two products."""
    network = copy.deepcopy(network).train()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(torch.cat([x, x]))
    return counter.get_total_flops() / 2


@SEVERAL
def test_operations_are_those_that_torch_counts(name: str, options: dict[str, Any], side: int) -> None:
    network: Any = made(name, **options)
    x = torch.rand(1, network.in_channels, side, side)
    assert count_flops(network, x) == pytest.approx(as_torch_counts(network, x), rel=1e-3)


@given(
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 5)]), stride=st.integers(1, 3), padding=st.integers(0, 2),
    dilation=st.integers(1, 2), groups=st.sampled_from([1, 2, 4]), arms=st.integers(1, 2),
    sides=st.sampled_from([(9, 9), (11, 14)]),
)  # fmt: skip
def test_operations_of_a_convolution_are_those_of_its_shape(
    kernel: tuple[int, int], stride: int, padding: int, dilation: int, groups: int, arms: int, sides: tuple[int, int]
) -> None:
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = torch.rand(1, 4, *sides)
    twin = slow.conv_flops(4, 8, kernel, sides, **geometry)
    assert count_flops(nn.Conv2d(4, 8, kernel, **geometry), x) == twin
    assert count_flops(bnn.BcosConv2d(4, 8, kernel, max_out=arms, **geometry), x) == twin * arms


@given(tokens=st.integers(1, 7), heads=st.integers(1, 3), dim=st.integers(1, 4), arms=st.integers(1, 2))
def test_operations_of_linear_layers_and_attention_are_those_of_their_shapes(
    tokens: int, heads: int, dim: int, arms: int
) -> None:  # fmt: skip
    x = torch.rand(1, tokens, 6)
    assert count_flops(nn.Linear(6, 5), x) == slow.linear_flops(6, 5, tokens)
    assert count_flops(bnn.BcosLinear(6, 5, max_out=arms), x) == slow.linear_flops(6, 5, tokens, arms)
    wide = heads * dim
    whole = slow.linear_flops(6, 3 * wide, tokens) + slow.attention_flops(tokens, heads, dim) + slow.linear_flops(wide, 6, tokens)
    assert count_flops(bnn.Attention(6, heads, head_dim=dim), x) == whole


@pytest.mark.parametrize("side", [4, 6, 7, 8])
def test_attention_within_windows_is_counted_within_windows(side: int) -> None:
    layer, x = bnn.WindowAttention(6, 2, window=4, head_dim=3), torch.rand(1, side, side, 6)
    assert count_flops(layer, x) == pytest.approx(as_torch_counts(layer, x), rel=1e-3)


def test_a_layer_that_is_called_twice_costs_twice_and_modes_stay() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.drop = nn.Linear(4, 4), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(self.drop(self.layer(x)))
            return out

    network = Twice()
    network.layer.eval()
    assert count_flops(network, torch.zeros(1, 4)) == 64
    assert [module.training for module in network.modules()] == [True, False, True]
    assert count_flops(network, torch.zeros(3, 4)) == 192
    assert [len(module._forward_hooks) for module in network.modules()] == [0, 0, 0]


class Depthwise(nn.Module):
    """A block of mobile networks, B-cos or ordinary."""

    def __init__(self, conv: Any, inputs: int = 6) -> None:
        super().__init__()
        self.wide, self.norm = conv(inputs, 16, 1), nn.BatchNorm2d(16)
        self.deep, self.norm2 = conv(16, 16, 3, padding=1, stride=2, groups=16), nn.BatchNorm2d(16)
        self.narrow = conv(16, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.norm(self.wide(x)))
        out: Tensor = self.narrow(nn.functional.relu6(self.norm2(self.deep(x))))
        return out.mean((2, 3))


def check_built(network: nn.Module, x: Tensor, seed: int) -> None:
    """The operations that were foretold are those of the network that is built, and of no other."""
    pruner = Pruner(network, x, repair="none")
    steps = [1, *random.Random(seed).choices(range(1, 9), k=len(pruner.groups) - 1)]
    built = pruner.build(steps)
    shares = {group.name: len(kept) / group.size for group, kept in pruner.kept(steps)}
    costs = Costs.of(network, x[:1], pruner.groups)
    assert costs.total(shares) == pytest.approx(count_flops(built, x[:1]), rel=1e-9) == pruner.flops(steps)
    assert costs.total() == costs.total({}) == count_flops(network, x[:1]) == pruner.flops()
    assert costs.total(shares) < costs.total()


@SEVERAL
def test_what_is_foretold_is_what_the_built_network_costs(name: str, options: dict[str, Any], side: int) -> None:
    network: Any = made(name, **options)
    check_built(network, torch.rand(2, network.in_channels, side, side), seed=len(name))


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), bcos=st.booleans())
def test_what_is_foretold_of_small_networks(seed: int, bcos: bool) -> None:
    check_built(Depthwise(bnn.BcosConv2d if bcos else nn.Conv2d), torch.rand(2, 6, 7, 7), seed)
    layers = [bnn.BcosLinear(5, 16, max_out=2), nn.BatchNorm1d(16), bnn.BcosLinear(16, 8, max_out=2), nn.Linear(8, 3)]
    check_built(nn.Sequential(*layers), torch.rand(2, 5), seed)


def test_what_is_foretold_of_attention_that_is_the_whole_network() -> None:
    check_built(bnn.Attention(8, 4, head_dim=2), torch.rand(2, 5, 8), seed=1)


@settings(max_examples=10)
@given(shares=st.lists(st.floats(0.1, 1), min_size=9, max_size=9), more=st.integers(0, 8))
def test_more_channels_never_cost_less(shares: list[float], more: int) -> None:
    network: Any = made("resnet18", width_factor=0.125, antialias=True)
    groups, _ = find_groups(network)
    assert len(groups) == len(shares)
    costs = Costs.of(network, torch.rand(1, 6, 32, 32), groups)
    given_ = dict(zip((group.name for group in groups), shares, strict=True))
    larger = {**given_, groups[more].name: 1.0}
    assert costs.total(given_) <= costs.total(larger) <= costs.total()
    named = {groups[more].name, *groups[more].readers}
    assert {name for name in costs.layers if groups[more].name in (costs.outputs.get(name), costs.inputs.get(name))} == named
