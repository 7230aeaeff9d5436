"""The fused convolution: its first and second derivatives, what it keeps, and where it stands aside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torchbcos import nn as bnn
from torchbcos.functional import bcos_conv
from torchbcos.kernels import conv
from torchbcos.kernels.geometry import Geometry

CONVS = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"groups": 2, "padding": 1},
    {"groups": 4, "padding": 1},
    {"padding": 1, "padding_mode": "circular"},
    {"b": 1.5, "padding": 1},
    {"b": 2, "max_out": 2},
    {"b": 3, "groups": 2, "max_out": 2},
]


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("options", CONVS, ids=str)
def test_first_and_second_derivatives_of_convolutions(options: dict[str, object], layout: torch.memory_format) -> None:
    groups = int(str(options.get("groups", 1)))
    # more than four channels: in channels_last the norms of positions are taken another way
    x, w = double(2, 8, 5, 4), double(4, 8 // groups, 3, 3)

    def run(x: Tensor, w: Tensor) -> Tensor:
        return bcos_conv(x.contiguous(memory_format=layout), w, **options)  # type: ignore[arg-type]

    if options.get("dilation"):
        x = double(2, 8, 6, 5)
    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))


@pytest.mark.parametrize("space", [1, 3])
def test_derivatives_in_one_and_three_dimensions(space: int) -> None:
    x, w = double(2, 2, *[4] * space), double(2, 2, *[3] * space)
    assert torch.autograd.gradcheck(lambda x, w: bcos_conv(x, w, stride=2, padding=1), (x, w))


def saved_elements(out: Tensor) -> int:
    """Elements that the graph of `out` keeps for its backward pass, each storage once."""
    nodes, met, seen = [out.grad_fn], set(), {}
    while nodes:
        node = nodes.pop()
        if node is None or node in met:
            continue
        met.add(node)
        names = ["saved_tensors"] if hasattr(node, "saved_tensors") else [n for n in dir(node) if n.startswith("_saved_")]
        for name in names:
            value = getattr(node, name)
            for t in value if isinstance(value, tuple) else (value,):
                if isinstance(t, Tensor):
                    seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        nodes += [parent for parent, _ in node.next_functions]
    return sum(seen.values())


@pytest.mark.newest
def test_what_training_keeps() -> None:
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    layer, norm = bnn.BcosConv2d(8, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False)
    size = x.numel()
    kept = saved_elements(norm(layer(x)))
    assert 2 * size <= kept < 2.5 * size  # the input, the linear output, and maps of one channel
    written_out = saved_elements(conv._plain(x, layer.weight, Geometry((3, 3), (1, 1), (1, 1), (1, 1), 1), 1e-6))
    assert written_out > 3 * size  # the measure can tell


def test_what_an_explanation_keeps() -> None:
    from torchbcos._core.frozen import CONSTANT, Session, session

    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    conv = bnn.BcosConv2d(8, 8, 3, padding=1)
    with session(Session(CONSTANT, {}, 2, x)):
        kept = saved_elements(conv(x))
    assert x.numel() <= kept < 1.4 * x.numel()


@given(seed=st.integers(0, 999), channels_last=st.booleans(), groups=st.sampled_from([1, 2, 8]), stride=st.integers(1, 3))
def test_float32_gradients_are_those_of_float64(seed: int, channels_last: bool, groups: int, stride: int) -> None:
    torch.manual_seed(seed)
    x, w = torch.randn(3, 8, 9, 9) * 2 + 0.5, torch.randn(16, 8 // groups, 3, 3)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    found = []
    for dtype in (torch.float32, torch.float64):
        norm = bnn.BatchNorm(16, centered=False, bias=False).to(dtype)
        leaves = [x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()]
        y = norm(bcos_conv(*leaves, stride=stride, padding=1, groups=groups))
        weights = torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)
        found.append(torch.autograd.grad((y * weights).sum(), [*leaves, norm.weight]))
    for single, exact in zip(*found, strict=True):
        assert (single.double() - exact).abs().max() <= 1e-4 * exact.abs().max()


def test_functorch_takes_the_plain_path() -> None:
    w, x = torch.randn(3, 2, 3, 3), torch.randn(4, 2, 5, 5)
    rows = torch.func.vmap(torch.func.grad(lambda x: bcos_conv(x[None], w).pow(2).sum()))(x)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(bcos_conv(leaf, w).pow(2).sum(), leaf)
    torch.testing.assert_close(rows, expected)


def test_batched_gradients() -> None:
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    w = torch.randn(3, 2, 3, 3)
    y = bcos_conv(x, w).sum((2, 3))[0]
    (rows,) = torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True, retain_graph=True)
    for k in range(3):
        torch.testing.assert_close(rows[k], torch.autograd.grad(y[k], x, retain_graph=True)[0])


@pytest.mark.parametrize("zero", ["input", "filter", "neither"])
def test_zero_patches_and_filters_have_finite_gradients(zero: str) -> None:
    conv, dense = bnn.BcosConv2d(2, 2, 3), bnn.BcosLinear(4, 3)
    x, v = torch.randn(1, 2, 4, 4), torch.randn(2, 4)
    with torch.no_grad():
        if zero == "input":
            x.zero_()
            v.zero_()
        if zero == "filter":
            conv.weight[0] = 0
            dense.weight[0] = 0
    x.requires_grad_()
    v.requires_grad_()
    (conv(x).sum() + dense(v).sum()).backward()
    for t in (x, v, conv.weight, dense.weight):
        assert t.grad is not None
        assert bool(torch.isfinite(t.grad).all())
