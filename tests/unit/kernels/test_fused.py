"""The fused steps: their first and second derivatives, what they keep, and where they stand aside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchbcos import nn as bnn
from torchbcos.functional import bcos_conv, bcos_linear, unit_norm_weight
from torchbcos.kernels import fused
from torchbcos.kernels.batchnorm import channel_statistics, uncentered_batch_norm

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


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_first_and_second_derivatives_of_convolutions(options: dict[str, object]) -> None:
    groups = int(str(options.get("groups", 1)))
    x, w = double(2, 4, 5, 4), double(4, 4 // groups, 3, 3)

    def run(x: Tensor, w: Tensor) -> Tensor:
        return bcos_conv(x, w, **options)  # type: ignore[arg-type]

    if options.get("dilation"):
        x = double(2, 4, 6, 5)
    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))


def test_derivatives_of_many_groups() -> None:
    x, w = double(1, 10, 5, 4), double(10, 1, 3, 3)
    for options in ({"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}):
        assert torch.autograd.gradcheck(lambda x, w, o=options: bcos_conv(x, w, groups=10, **o), (x, w))
        slices, convolutions = [], []
        for few, found in ((100, slices), (0, convolutions)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fused, "FEW", few)
                y = bcos_conv(x, w, groups=10, **options)  # type: ignore[arg-type]
                found += [y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))]
        torch.testing.assert_close(slices, convolutions)


@pytest.mark.parametrize("space", [1, 3])
def test_derivatives_in_one_and_three_dimensions(space: int) -> None:
    x, w = double(2, 2, *[4] * space), double(2, 2, *[3] * space)
    assert torch.autograd.gradcheck(lambda x, w: bcos_conv(x, w, stride=2, padding=1), (x, w))


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0])
def test_derivatives_of_linear_layers(b: float) -> None:
    x, w = double(2, 3, 4), double(4, 4)
    assert torch.autograd.gradcheck(lambda x, w: bcos_linear(x, w, b=b), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: bcos_linear(x, w, b=b), (x, w))


NORMS = [
    lambda: bnn.BatchNorm(4, centered=False, bias=False),
    lambda: bnn.BatchNorm(4),
    lambda: bnn.AllNorm(4, centered=False),
    lambda: bnn.LayerNorm(4),
    lambda: bnn.InstanceNorm(4, centered=False),
    lambda: bnn.PositionNorm(4),
    lambda: bnn.GroupNorm(2, 4),
]


@pytest.mark.parametrize("make", NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_derivatives_of_norms(make, training: bool) -> None:
    norm = make().double().train(training)
    x = double(3, 4, 3, 2)
    names = [name for name, _ in norm.named_parameters()]
    values = tuple(p.detach().uniform_(0.5, 1.5).requires_grad_() for p in norm.parameters())

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))
    assert torch.autograd.gradgradcheck(run, (x, *values))


def test_a_norm_after_a_convolution_keeps_nothing_and_has_both_derivatives() -> None:
    x, w, gamma = double(3, 2, 4, 4), double(4, 2, 3, 3), double(4)

    def run(x: Tensor, w: Tensor, gamma: Tensor) -> Tensor:
        return uncentered_batch_norm(bcos_conv(x, w, padding=1), gamma, 1e-5)[0]

    assert torch.autograd.gradcheck(run, (x, w, gamma))
    assert torch.autograd.gradgradcheck(run, (x, w, gamma))


def test_derivatives_of_unit_norm() -> None:
    w = double(3, 2, 2)
    assert torch.autograd.gradcheck(unit_norm_weight, (w,))
    assert torch.autograd.gradgradcheck(unit_norm_weight, (w,))
    with torch.no_grad():
        w[0] = 0
    (g,) = torch.autograd.grad(unit_norm_weight(w).sum(), w)
    assert bool(torch.isfinite(g).all())


def test_training_under_checkpoints_gives_the_same_gradients() -> None:
    model = nn.Sequential(
        bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False), bnn.BcosConv2d(8, 4, 3, groups=2),
    ).train()  # fmt: skip
    x = torch.rand(4, 6, 8, 8, requires_grad=True)
    expected = torch.autograd.grad(model(x).sum(), [x, *model.parameters()])
    for reentrant in (False, True):
        model.zero_grad()
        x.grad = None
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        for found, wanted in zip([x, *model.parameters()], expected, strict=True):
            torch.testing.assert_close(found.grad, wanted)


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
    conv, norm = bnn.BcosConv2d(8, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False)
    size = x.numel()
    kept = saved_elements(norm(conv(x)))
    assert 2 * size <= kept < 2.5 * size  # the input, the linear output, and maps of one channel
    written_out = saved_elements(fused.plain(x, conv.weight, fused.Geometry((3, 3), (1, 1), (1, 1), (1, 1), 1), 1e-6))
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


@given(seed=st.integers(0, 999), shape=st.sampled_from([(4, 3, 5), (2, 3, 4, 5), (1, 6, 7, 7), (2, 2, 3, 2, 2)]))
def test_channel_statistics(seed: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 100
    if x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    dims = [0, *range(2, x.dim())]
    mean, var = channel_statistics(x)
    torch.testing.assert_close(mean, x.mean(dims), rtol=1e-12, atol=0)
    torch.testing.assert_close(var, x.var(dims, correction=0), rtol=1e-9, atol=0)


def test_statistics_do_not_cancel_in_float32() -> None:
    x = torch.randn(8, 3, 32, 32) + 1000
    _, var = channel_statistics(x)
    exact = x.double().var([0, 2, 3], correction=0)
    assert (var.double() / exact - 1).abs().max() < 1e-4
    naive = (x * x).mean([0, 2, 3]) - x.mean([0, 2, 3]) ** 2
    assert (naive.double() / exact - 1).abs().max() > 1e-2  # what the two passes avoid


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
