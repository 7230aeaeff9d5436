"""What is recorded instead of a layer computes the same, forward and backward, in operations that ONNX has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.explanation import portable
from torchbcos.explanation.portable import Written

pytestmark = pytest.mark.newest

POOLS: tuple[tuple[Any, Any], ...] = (
    (F.avg_pool1d, F.adaptive_avg_pool1d), (F.avg_pool2d, F.adaptive_avg_pool2d), (F.avg_pool3d, F.adaptive_avg_pool3d),
)  # fmt: skip
SMOOTH = ("linear", "bilinear", "trilinear")


@st.composite
def calls(draw: st.DrawFn) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    """A function of an input of that shape: a pool, a resampling or a padding of one to three axes."""
    axes = draw(st.integers(1, 3))
    shape = (2, 3, *draw(st.lists(st.integers(3, 6), min_size=axes, max_size=axes)))
    sizes = draw(st.lists(st.integers(1, 7), min_size=axes, max_size=axes))
    kind = draw(st.sampled_from(["average", "adaptive", "size", "scale", "circular", "replicate"]))
    if kind == "average":
        kernel = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
        options = {"padding": draw(st.integers(0, min(kernel) // 2)), "ceil_mode": draw(st.booleans()),
                   "count_include_pad": draw(st.booleans()), "stride": draw(st.sampled_from([None, 1, 2]))}  # fmt: skip
        if axes > 1:
            options["divisor_override"] = draw(st.sampled_from([None, 5]))
        return (lambda x: POOLS[axes - 1][0](x, kernel, **options)), shape
    if kind == "adaptive":
        return (lambda x: POOLS[axes - 1][1](x, sizes)), shape
    if kind in ("circular", "replicate"):
        pads = draw(st.lists(st.integers(0, 3), min_size=2 * axes, max_size=2 * axes))
        return (lambda x: F.pad(x, pads, mode=kind)), shape
    modes = ["nearest", "nearest-exact", SMOOTH[axes - 1], "area", *(["bicubic"] if axes == 2 else [])]
    mode = draw(st.sampled_from(modes))
    corners = draw(st.booleans()) if mode in (*SMOOTH, "bicubic") else None
    size: Any = {"size": sizes} if kind == "size" else {"scale_factor": draw(st.sampled_from([0.5, 1.7, 2.0]))}
    return (lambda x: F.interpolate(x, mode=mode, align_corners=corners, **size)), shape


@settings(max_examples=60, deadline=None)
@given(call=calls())
def test_a_function_in_its_other_form_computes_the_same(call: tuple[Callable[[Tensor], Tensor], tuple[int, ...]]) -> None:
    function, shape = call
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    expected = function(x)
    with Written(portable=True):
        found = function(x)
    g = torch.rand(expected.shape, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, g)[0] for y in (found, expected)))


def test_what_has_no_other_form_stays_what_it_is() -> None:
    x = torch.rand(1, 2, 4, 4)
    with Written(portable=True):
        assert torch.equal(F.pad(x, [1, 1, 0, 0], mode="reflect"), torch.cat([x[..., 1:2], x, x[..., -2:-1]], -1))
        assert torch.equal(F.pad(x, [-1, 0, 0, 0], mode="replicate"), x[..., 1:])
        with pytest.raises(RuntimeError, match="wrap"):
            F.pad(x, [5, 0, 0, 0], mode="circular")
    with Written(portable=False):
        assert F.adaptive_avg_pool2d(x, 2).shape == (1, 2, 2, 2)


def test_a_wrong_form_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(portable._FUNCTIONS, F.adaptive_avg_pool2d, lambda input, output_size: input.amax((2, 3), keepdim=True))
    with pytest.raises(torchbcos.BcosError, match="than explain"):
        torchbcos.explanation_graph(ends(nn.AdaptiveAvgPool2d(1)), torch.rand(1, 6, 6, 6), portable=True)


def ends(*layers: nn.Module) -> nn.Module:
    """A small network with these layers before its linear head."""
    return torchbcos.deploy(nn.Sequential(bnn.BcosConv2d(6, 4, 3), *layers, nn.Flatten(), bnn.BcosLinear(4, 3)))


def flat(*layers: nn.Module) -> nn.Module:
    """A small network with these layers before a last convolution."""
    return torchbcos.deploy(nn.Sequential(bnn.BcosConv2d(6, 4, 3), *layers, bnn.BcosConv2d(4, 3, 1), bnn.GlobalAveragePool()))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "head": lambda: ends(nn.AdaptiveAvgPool2d(1)),
    "circular": lambda: flat(bnn.BcosConv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "replicate": lambda: flat(bnn.BcosConv2d(4, 4, 3, padding=1, padding_mode="replicate")),
    "ceil": lambda: flat(nn.AvgPool2d(3, ceil_mode=True)),
    "volume": lambda: torchbcos.deploy(
        nn.Sequential(bnn.BcosConv3d(6, 4, 3), nn.AvgPool3d(2), bnn.BcosConv3d(4, 3, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    ),
    "upsample": lambda: flat(nn.Upsample(scale_factor=2, mode="bilinear")),
}  # fmt: skip
UNKNOWN = ("as_strided", "backward", "adaptive", "avg_pool3d", "upsample", "empty_strided")


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_hold_operations_that_onnx_has(name: str) -> None:
    network, axes = NETWORKS[name](), 3 if name == "volume" else 2
    x = torch.rand(3, 6, *(7,) * axes)
    graph = torchbcos.explanation_graph(network, x[:1], portable=True)
    assert graph.batch is None
    operations = [str(node.target) for node in graph.recorded.graph.nodes]  # type: ignore[union-attr]
    assert not [
        operation for operation in operations if any(part in operation for part in UNKNOWN) and "slice_backward" not in operation
    ]
    torch.testing.assert_close(graph(x)[2], torchbcos.explain(network, x).weights, rtol=1e-4, atol=1e-6)
