"""Local response norms, and other ordinary operations, against twins with the factors held by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError


class Between(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.f = nn.Conv2d(3, 8, 3, dtype=torch.float64), nn.Conv2d(8, 4, 3, dtype=torch.float64), f

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.f(self.first(x))).mean((2, 3))
        return out


def lrn(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    return x * (F.local_response_norm(x, size, alpha, beta, k) / x).detach()


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, (1 / 8 + 1 / 3) / 2)


def unpooled(x: Tensor) -> Tensor:
    top, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(top, places, 2)


def unpooled_by_hand(x: Tensor) -> Tensor:
    return x * (x == F.interpolate(F.max_pool2d(x, 2), scale_factor=2)).to(x)


CASES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]] = {
    "local_response_norm": (lambda x: F.local_response_norm(x, 3), lambda x: lrn(x, 3)),
    "local_response_norm, options": (nn.LocalResponseNorm(4, 2.0, 0.5, 0.3), lambda x: lrn(x, 4, 2.0, 0.5, 0.3)),
    "local_response_norm, 3-D": (
        lambda x: F.local_response_norm(x.flatten(2), 5, alpha=1.0).view_as(x), lambda x: lrn(x.flatten(2), 5, 1.0).view_as(x)
    ),
    "rrelu": (F.rrelu, leaky),
    "RReLU in place": (lambda x: nn.RReLU(inplace=True).eval()(x.clone()), leaky),
    "nan_to_num": (torch.nan_to_num, lambda x: x),
    "nan_to_num_": (lambda x: (x * 1).nan_to_num_(0.5), lambda x: x),
    "max_unpool2d": (unpooled, unpooled_by_hand),
    "atleast_3d": (torch.atleast_3d, lambda x: x),
    "atleast_2d of two": (lambda x: sum(torch.atleast_2d(x, torch.ones((), dtype=x.dtype))[:1]), lambda x: x),
    "atleast_1d of a list": (lambda x: torch.atleast_1d([x, x.relu()])[1], torch.relu),
}  # fmt: skip


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_ordinary_operations_are_their_twins(name: str, verify: bool) -> None:
    given, held = (Between(f).eval() for f in CASES[name])
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    e = torchbcos.explain(given, x.detach(), 1, verify=verify)
    out = held(x)
    (want,) = torch.autograd.grad(out[:, 1].sum(), x)
    assert torch.allclose(e.outputs, out, atol=1e-12) and torch.allclose(e.outputs, given(x), atol=1e-12)
    assert torch.allclose(e.weights.squeeze(1), want, atol=1e-12)
    assert float(e.residual.abs().max()) < 1e-12 and set(e.constants) == {"first.bias", "second.bias"}


def test_a_numbers_stand_in_is_refused() -> None:
    def hole(x: Tensor) -> Tensor:
        return torch.nan_to_num(x.masked_fill(x > 0.5, torch.inf), posinf=1.0)

    with pytest.raises(StateError, match=r"nan_to_num.*not finite"):
        torchbcos.explain(Between(hole).eval(), torch.randn(1, 3, 8, 8, dtype=torch.float64), 1)
