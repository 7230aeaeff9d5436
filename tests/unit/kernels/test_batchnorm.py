"""The uncentred batch norm as one step: its statistics, and its derivatives after a convolution that keeps its input for it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchbcos import nn as bnn
from torchbcos.functional import bcos_conv
from torchbcos.kernels.batchnorm import channel_statistics, uncentered_batch_norm


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
