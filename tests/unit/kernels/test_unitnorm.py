"""Filters of unit norm: both derivatives, and a zero filter."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos.functional import unit_norm_weight


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_derivatives_of_unit_norm() -> None:
    w = double(3, 2, 2)
    assert torch.autograd.gradcheck(unit_norm_weight, (w,))
    assert torch.autograd.gradgradcheck(unit_norm_weight, (w,))
    with torch.no_grad():
        w[0] = 0
    (g,) = torch.autograd.grad(unit_norm_weight(w).sum(), w)
    assert bool(torch.isfinite(g).all())
