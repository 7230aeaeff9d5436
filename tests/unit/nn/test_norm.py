"""Every norm has both derivatives, in training and in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchbcos import nn as bnn


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


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
