"""The fused linear layer: its derivatives, and in float32 those of float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchbcos.functional import bcos_linear


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0])
def test_derivatives_of_linear_layers(b: float) -> None:
    x, w = double(2, 3, 4), double(4, 4)
    assert torch.autograd.gradcheck(lambda x, w: bcos_linear(x, w, b=b), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: bcos_linear(x, w, b=b), (x, w))


@pytest.mark.parametrize("shape", [(300, 24), (3, 100, 24), (2, 7, 20, 24)], ids=str)
def test_gradients_of_large_linear_layers_are_those_of_float64(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(32, 24)
    found = []
    for dtype in (torch.float32, torch.float64):
        a, w = x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        y = bcos_linear(a, w)
        found.append([y.detach(), *torch.autograd.grad(y.sin().sum(), (a, w))])
    for single, twin in zip(*found, strict=True):
        assert float((single - twin).norm() / twin.norm()) < 1e-5
