"""The uncentred batch norm as one step: its statistics, and its derivatives after a convolution that keeps its input for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchbcos import nn as bnn
from torchbcos._core import torch_private
from torchbcos.functional import bcos_conv
from torchbcos.kernels import batchnorm, conv
from torchbcos.kernels.batchnorm import channel_statistics, fused_batch_norm, uncentered_batch_norm


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_a_norm_after_a_convolution_keeps_nothing_and_has_both_derivatives() -> None:
    x, w, gamma = double(3, 2, 4, 4), double(4, 2, 3, 3), double(4)

    def run(x: Tensor, w: Tensor, gamma: Tensor) -> Tensor:
        return uncentered_batch_norm(bcos_conv(x, w, padding=1), gamma, 1e-5)[0]

    assert torch.autograd.gradcheck(run, (x, w, gamma))
    assert torch.autograd.gradgradcheck(run, (x, w, gamma))


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


class Between(nn.Module):
    """A convolution, somebody who writes into its output, a norm in training mode; `hidden`: the norm has to keep its input."""

    def __init__(self, write: Callable[[Tensor], object], hidden: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.norm = bnn.BcosConv2d(6, 4, 3), bnn.BatchNorm(4, centered=False, bias=False)
        self.write, self.hidden = write, hidden

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * 1.0 if self.hidden else self.conv(x)
        self.write(y)
        out: Tensor = self.norm(y)
        return out


def without_gradients(change: Callable[[Tensor], object]) -> Callable[[Tensor], object]:
    def write(y: Tensor) -> None:
        with torch.no_grad():
            change(y)

    return write


def in_inference_mode(y: Tensor) -> None:
    with torch.inference_mode():
        y.mul_(0.5)


def through_numpy(y: Tensor) -> None:
    numbers = y.detach().numpy()
    numbers *= 0.5


def by_storage(y: Tensor) -> None:
    y.untyped_storage().copy_((y.detach().flip(0) * 0.5).untyped_storage())


def scale(y: Tensor) -> Tensor:
    return torch.linspace(0.2, 3, y.numel(), dtype=y.dtype).view(y.shape)


BETWEEN: dict[str, Callable[[Tensor], object]] = {
    "nothing": lambda y: None,
    "mul_": without_gradients(lambda y: y.mul_(scale(y))),
    "one number": without_gradients(lambda y: y[0, 1, 3, 5].add_(1)),
    "zero_ of a channel": without_gradients(lambda y: y[:, 2].zero_()),
    "inference mode": in_inference_mode,
    "detach": lambda y: y.detach().mul_(scale(y)),
    ".data clamp_": lambda y: y.data.clamp_(min=0.01),
    ".data, turned": lambda y: y.data.copy_(y.detach().flip(0, 3).clone()),
    ".data, one channel": lambda y: y.data[:, 3].mul_(2),
    "numpy": through_numpy,
    "storage": by_storage,
}


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    out = model(x)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype)
    return list(torch.autograd.grad((out * g).sum(), list(model.parameters())))


@pytest.mark.parametrize("write", BETWEEN)
def test_a_write_between_convolution_and_norm_has_the_right_gradients(write: str) -> None:
    x = torch.rand(2, 6, 12, 12, dtype=torch.float64)
    found, expected = (gradients(Between(BETWEEN[write], hidden).double(), x) for hidden in (False, True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("place", ["after the convolution", "before the norm"])
def test_a_hook_may_write_one_number_without_a_word(place: str) -> None:
    def write(y: Tensor) -> None:
        y.data[0, 1, 3, 5] = 1.0

    x, models = torch.rand(2, 6, 12, 12, dtype=torch.float64), []
    for hidden in (False, True):
        model = Between(write if hidden else lambda y: None, hidden).double()
        if not hidden and place == "after the convolution":
            model.conv.register_forward_hook(lambda module, inputs, out: write(out))
        elif not hidden:
            model.norm.register_forward_pre_hook(lambda module, inputs: write(inputs[0]))
        models.append(model)
    for one, other in zip(*(gradients(model, x) for model in models), strict=True):
        torch.testing.assert_close(one, other)


SILENT = pytest.mark.skipif(torch_private.saved_tensor_hooks(), reason="this torch shows no hooks: the norm keeps its input")


@SILENT
def test_without_a_write_the_norm_keeps_no_input_of_its_own() -> None:
    model, x = Between(lambda y: None, hidden=False), torch.rand(2, 6, 12, 12)
    assert model(x).grad_fn.producer is not None
    model.write = lambda y: y.data.mul_(2)
    assert model(x).grad_fn.producer is None


@SILENT
def test_on_an_accelerator_an_unnoticed_write_gives_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the comparison may not wait for the device, so it stands in the backward pass."""

    x = torch.rand(2, 6, 12, 12)
    for write, finite in ((BETWEEN["nothing"], True), (BETWEEN["mul_"], True), (BETWEEN[".data clamp_"], False)):
        model = Between(write, hidden=False)
        expected = gradients(Between(write, hidden=True), x)
        with monkeypatch.context() as patch:
            for module in (conv, batchnorm):
                patch.setattr(module, "waits", lambda x: True)
            found = gradients(model, x)
        assert all(bool(g.isfinite().all()) == finite for g in found)
        if finite:
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other)


def test_a_convolution_alone_under_a_checkpoint_before_a_norm() -> None:
    model, x = Between(lambda y: None, hidden=False).double(), torch.rand(2, 6, 12, 12, dtype=torch.float64)
    expected = gradients(model, x)

    class Split(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = model.norm(checkpoint(model.conv, x, use_reentrant=False))
            return out

    split = Split()
    split.model = model
    for one, other in zip(gradients(split, x), expected, strict=True):
        torch.testing.assert_close(one, other)


def odd(t: Tensor, space: tuple[int, ...]) -> Tensor:
    """Tokens (N, T, C) as a map (N, C, *S): the axes of one image alone lie in memory as no map's do."""
    return t.transpose(1, 2).reshape(t.shape[0], t.shape[2], *space)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("space", [(3, 4), (2, 3, 4), (1, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_tokens_of_one_image_made_a_map(images: int, space: tuple[int, ...], training: bool) -> None:
    """torch's own batch norm gives a wrong gradient for them, and for a gradient that comes as one; ours does not."""
    net = bnn.BatchNorm(4).double().train(training)
    with torch.no_grad():
        for t in (net.weight, net.bias, net.running_mean):
            t.normal_()
    tokens, r = double(images, math.prod(space), 4), torch.randn(images, math.prod(space), 4, dtype=torch.float64)
    x = odd(tokens, space)
    usual = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    expected = torch.autograd.grad(net(usual), usual, odd(r, space).contiguous())[0]
    for given_ in (x, usual):
        for gradient in (odd(r, space), odd(r, space).clone(memory_format=torch.contiguous_format)):
            found = torch.autograd.grad(net(given_), given_, gradient, retain_graph=True)[0]
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_transforms_and_forward_mode_go_through() -> None:
    net, x, v = bnn.BatchNorm(4).double().eval(), double(1, 4, 3, 3).detach(), torch.randn(1, 4, 3, 3, dtype=torch.float64)
    scale = torch.diag(torch.full((36,), (1 + 1e-5) ** -0.5, dtype=torch.float64))
    torch.testing.assert_close(torch.func.jacrev(net)(x).reshape(36, 36), scale)
    torch.testing.assert_close(torch.func.jvp(net, (x,), (v,))[1], v * (1 + 1e-5) ** -0.5)
    with torch.autograd.forward_ad.dual_level():
        tangent = torch.autograd.forward_ad.unpack_dual(net(torch.autograd.forward_ad.make_dual(x, v))).tangent
    torch.testing.assert_close(tangent, v * (1 + 1e-5) ** -0.5)
    edited = nn.Sequential(net, nn.ReLU(inplace=True))
    assert torch.autograd.grad(edited(x.requires_grad_()).sum(), x)[0].shape == x.shape


def test_other_images_are_not_copied() -> None:
    """The layout that torch's own batch norm gives, and no step of autograd more."""
    mean, var = torch.zeros(4), torch.ones(4)
    for x in (torch.rand(1, 4, 6, 6), torch.rand(1, 4, 6, 6).contiguous(memory_format=torch.channels_last), torch.rand(1, 4, 9)):
        assert fused_batch_norm(x, mean, var, None, None).stride() == F.batch_norm(x, mean, var).stride()
    y = fused_batch_norm(torch.rand(2, 4, 6, 6, requires_grad=True), mean, var, None, None)
    assert y.grad_fn is not None and y.grad_fn.name() == "NativeBatchNormBackward0"
