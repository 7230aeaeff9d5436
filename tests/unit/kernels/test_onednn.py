"""Products and packed convolutions by oneDNN: the numbers of the plain calls, in every shape, after every change."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.torch_private import packing
from torchbcos.kernels import onednn
from torchbcos.kernels.geometry import Geometry

packs = pytest.mark.skipif(packing.works is False, reason="torch was built without oneDNN")


@given(
    rows=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    width=st.integers(1, 70),
    outputs=st.integers(1, 70),
    turned=st.booleans(),
)
def test_products_are_those_of_a_float64_twin(rows: list[int], width: int, outputs: int, turned: bool) -> None:
    generator = torch.Generator().manual_seed(sum(rows) + width)
    x = torch.randn(*rows, width, generator=generator)
    weight = torch.randn(width, outputs, generator=generator).t() if turned else torch.randn(outputs, width, generator=generator)
    expected = torch.einsum("...d,od->...o", x.double(), weight.double())
    found = onednn.product(x, weight)
    assert found.shape == (*rows, outputs)
    torch.testing.assert_close(found.double(), expected, atol=2e-6 * width, rtol=1e-5)


def geometry(kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> Geometry:
    return Geometry(kernel, (stride,) * 2, (padding,) * 2, (dilation,) * 2, 1)


def inputs(n: int, side: int, channels: int) -> Tensor:
    return torch.randn(n, channels, side, side).contiguous(memory_format=torch.channels_last)


@packs
@settings(deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    side=st.integers(6, 9),
    n=st.integers(1, 3),
)
def test_packed_convolutions_are_the_plain_ones_in_both_directions(
    kernel: tuple[int, int], stride: int, padding: int, dilation: int, side: int, n: int
) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(192, 192, *kernel), inputs(n, side, 192)
    shape, packed = geometry(kernel, stride, padding, dilation), onednn.Packed()
    expected = F.conv2d(x.double(), weight.double(), None, stride, padding, dilation)
    for _ in range(2):  # packed, and what was packed used again
        found = packed.convolve(x, weight, shape)
        assert (found is not None) == packed.pays(x, weight, shape)
        if found is not None:
            torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-5)
    g = torch.randn_like(expected.float()).contiguous(memory_format=torch.channels_last)
    back = packed.gradient(g, weight, shape)
    if stride > 1:
        assert back is None
    elif back is not None:
        twin = torch.nn.grad.conv2d_input(x.shape, weight.double(), g.double(), stride, padding, dilation)
        torch.testing.assert_close(back.double(), twin, atol=1e-3, rtol=1e-5)


@packs
def test_it_packs_where_it_pays() -> None:
    weight, one = torch.randn(192, 192, 1, 1), geometry((1, 1), 1, 0, 1)
    assert onednn.Packed.pays(inputs(1, 7, 192), weight, one)
    assert not onednn.Packed.pays(inputs(1, 56, 192), weight, one)  # a large map
    assert not onednn.Packed.pays(inputs(1, 7, 192).contiguous(), weight, one)  # not channels_last
    assert not onednn.Packed.pays(inputs(1, 7, 192).double(), weight.double(), one)
    assert not onednn.Packed.pays(inputs(1, 7, 16), weight[:16, :16], one)


@packs
def test_one_order_is_kept_and_a_shape_met_twice_replaces_it() -> None:
    weight, one, packed = torch.randn(192, 192, 1, 1), geometry((1, 1), 1, 0, 1), onednn.Packed()
    small, large = inputs(1, 7, 192), inputs(1, 9, 192)
    assert packed.convolve(small, weight, one) is not None
    kept = packed.ahead.kept
    for x in (large, small, large):  # met in turn with another: only the first time counts as once
        packed.convolve(x, weight, one)
    assert packed.convolve(large, weight, one) is not None
    assert packed.ahead.kept is not kept
    assert kept is not None and packed.ahead.kept is not None and packed.ahead.kept[0] == large.shape


def small_maps() -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(bnn.BcosConv2d(64, 192, 3, padding=1), bnn.BcosConv2d(192, 192, 3, padding=1), bnn.GlobalAveragePool())
        .eval()
        .requires_grad_(False)
        .to(memory_format=torch.channels_last)
    )


@packs
def test_a_network_of_packed_weights_notices_their_changes() -> None:
    model, x = small_maps(), inputs(1, 8, 64)
    before = model(x)
    assert model[1].__dict__["_packed"].ahead.kept is not None
    model[1].weight.copy_(torch.randn_like(model[1].weight))
    expected = small_maps().double()
    expected.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x).double(), expected(x.double()), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(x), before)
    e = torchbcos.explain(model, x, 3)
    assert float(e.residual.abs().max()) < 1e-4
    twin = torchbcos.explain(expected, x.double(), 3)
    torch.testing.assert_close(e.weights.double(), twin.weights, atol=1e-5, rtol=1e-3)


@packs
def test_threads_of_two_shapes_share_one_packed_network() -> None:
    model, shapes, failed = small_maps(), [inputs(1, 8, 64), inputs(1, 6, 64)], []
    expected = [model.double()(x.double()).float() for x in shapes]
    model.float()

    def work(k: int) -> None:
        for turn in range(20):
            which = (k + turn // 3) % 2
            if not torch.allclose(model(shapes[which]), expected[which], atol=1e-5, rtol=1e-4):
                failed.append((k, turn))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
