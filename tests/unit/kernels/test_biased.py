"""Factor and norm bias as one step of autograd: its derivatives, beside the layer's own operations, and where it stands aside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import frozen
from torchbcos.kernels.biased import biased, channel_squares, trains
from torchbcos.nn import bcosified

EXPONENTS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
KERNELS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 1}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "padding": "dynamic", "stride": 2},
    {"kernel_size": 3, "groups": 6, "padding": 1}, {"kernel_size": 3, "dilation": 2, "padding": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "antialias": True},
)  # fmt: skip


def layer_of(b: float, options: dict[str, Any], bias: bool = True) -> bnn.BcosifiedConv2d:
    layer = bnn.BcosifiedConv2d(6, 12, b=b, bias=bias, **options).double()
    with torch.no_grad():
        layer.unit.fill_(1.7)
        if layer.bias is not None:
            layer.bias.normal_()
    return layer


def answers(layer: nn.Module, x: Tensor) -> list[Tensor]:
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@given(b=st.sampled_from(EXPONENTS), options=st.sampled_from(KERNELS), bias=st.booleans(), seed=st.integers(0, 99))
def test_it_is_what_the_layers_own_operations_give(
    layout: torch.memory_format, b: float, options: dict[str, Any], bias: bool, seed: int
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    layer = layer_of(b, options, bias)
    x = torch.randn(2, 6, 7, 6, dtype=torch.float64)
    x[0, :, 2, 2] = 0
    x = x.contiguous(memory_format=layout).requires_grad_()
    fused = answers(layer, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bcosified, "steps_fit", lambda x: False)
        plain = answers(layer, x)
    for mine, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@given(b=st.sampled_from(EXPONENTS), options=st.sampled_from(KERNELS), bias=st.booleans(), seed=st.integers(0, 99))
def test_prediction_and_explanation_are_what_the_layers_own_operations_give(
    layout: torch.memory_format, b: float, options: dict[str, Any], bias: bool, seed: int
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    net = nn.Sequential(layer_of(b, options, bias), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torch.randn(2, 6, 7, 6, dtype=torch.float64)
    x[0, :, 2, 2] = 0
    x = x.contiguous(memory_format=layout)

    def both() -> list[Tensor]:
        with torch.no_grad():
            y = net(x)
        e = torchbcos.explain(net, x, [0, 5])
        assert float(e.residual.abs().max()) < 1e-12
        return [y, e.weights, e.contributions]

    fused = both()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bcosified, "steps_fit", lambda x: False)
        plain = both()
    for mine, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("b", EXPONENTS)
def test_first_and_second_derivatives(b: float) -> None:
    torch.manual_seed(0)
    y = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    norms = (torch.rand(2, 1, 4, dtype=torch.float64) + 1).requires_grad_()
    lengths = torch.rand(2, 1, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def run(y: Tensor, norms: Tensor, lengths: Tensor, bias: Tensor) -> Tensor:
        return biased(y, norms, lengths, bias, b, 1e-6)

    assert torch.autograd.gradcheck(run, (y, norms, lengths, bias))
    assert torch.autograd.gradgradcheck(run, (y, norms, lengths, bias))
    assert torch.autograd.gradgradcheck(channel_squares, (y,))


@pytest.mark.parametrize("b", EXPONENTS)
def test_many_gradients_at_once(b: float) -> None:
    torch.manual_seed(0)
    layer, x = layer_of(b, {"kernel_size": 3}), torch.randn(1, 6, 4, 4, dtype=torch.float64)
    found = [torch.autograd.functional.jacobian(layer, x, vectorize=way) for way in (True, False)]
    torch.testing.assert_close(*found)


def test_a_picture_without_a_batch_axis_keeps_its_shape_in_training() -> None:
    layer, x = layer_of(1.5, {"kernel_size": 3, "padding": 1, "stride": 2, "antialias": True}), torch.rand(6, 8, 8).double()
    with torch.no_grad():
        wanted = layer(x)
    assert wanted.shape == (12, 4, 4)
    torch.testing.assert_close(layer(x), wanted)


def test_it_stands_aside_where_an_explanation_or_a_tracer_looks() -> None:
    x = torch.rand(1, 6, 5, 5)
    assert trains(x)
    with torch.no_grad():
        assert not trains(x)
    with frozen():
        assert not trains(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not trains(x)
    assert not trains(x.half())


def test_a_layer_in_training_explains_the_same_numbers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(layer_of(1.5, {"kernel_size": 3, "padding": 1}), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.rand(2, 6, 8, 8, dtype=torch.float64)
    e = torchbcos.explain(net, x)
    assert float(e.residual.abs().max()) < 1e-12
    torch.testing.assert_close(net(x).amax(1), e.values[:, 0], rtol=1e-12, atol=1e-12)


def test_shapes_that_a_step_cannot_take_take_the_plain_way() -> None:
    for options in (
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 1, "unit_norm": True},
        {"kernel_size": 1, "learnable_b": True},
    ):
        layer = bnn.BcosifiedConv2d(6, 12, b=1.5, **options)
        assert not layer._fuses(torch.rand(1, 6, 4, 4))
        layer(torch.rand(1, 6, 4, 4)).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())


def test_what_does_not_fit_is_said_in_training_as_otherwise() -> None:
    layer = bnn.BcosifiedConv2d(6, 4, 3)
    for shape, said in (((1, 3, 8, 8), "RGB pictures are encoded first"), ((1, 6, 2, 8), "too small for a kernel")):
        for grad in (True, False):
            with torch.set_grad_enabled(grad), pytest.raises(InputError, match=said):
                layer(torch.rand(shape))
