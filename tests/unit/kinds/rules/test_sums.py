"""Sums and joins in spellings that are seldom used: as a twin whose factors are detached by hand, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError

K = torch.linspace(0.1, 0.6, 4, dtype=torch.float64).reshape(4, 1, 1)
M = torch.linspace(-1, 1, 2 * 6 * 6, dtype=torch.float64).reshape(2, 6, 6)


class Between(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x))).mean((2, 3))


def pair(function: Callable[[Tensor], Tensor], twin: Callable[[Tensor], Tensor]) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(3)
    one = Between(function).double().eval()
    other = Between(twin).double().eval()
    other.load_state_dict(one.state_dict())
    return one, other, torch.rand(2, 3, 8, 8, dtype=torch.float64)


def gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x).detach()


SAME: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "addcmul": (lambda x: torch.addcmul(x, x, gate(x), value=2), lambda x: x + 2 * x * gate(x)),
    "addbmm": (
        lambda x: torch.stack([torch.addbmm(i.sum(0), i, M[:1].expand(4, 6, 6)) for i in x]).unsqueeze(1).expand(-1, 4, -1, -1),
        lambda x: torch.stack([i.sum(0) + (i @ M[0]).sum(0) for i in x]).unsqueeze(1).expand(-1, 4, -1, -1),
    ),
    "baddbmm": (
        lambda x: torch.baddbmm(x.flatten(0, 1), x.flatten(0, 1), M[:1].expand(8, 6, 6), beta=2, alpha=3).view_as(x),
        lambda x: 2 * x + 3 * (x @ M[0]),
    ),
    "constant_pad_nd": (lambda x: torch.constant_pad_nd(x, (1, 1), 1.5), lambda x: F.pad(x, (1, 1), value=1.5)),
    "an integer tensor is chosen": (
        lambda x: torch.where(x > 0, x, torch.arange(4).reshape(4, 1, 1)),
        lambda x: torch.where(x > 0, x, torch.arange(4.0, dtype=x.dtype).reshape(4, 1, 1)),
    ),
    "integers are written": (
        lambda x: _written(x, torch.arange(6)),
        lambda x: _written(x, torch.arange(6.0, dtype=x.dtype)),
    ),
    "a constant is copied": (lambda x: _copied(x), lambda x: torch.cat([K[:2].expand(len(x), 2, 6, 6), x[:, 2:]], 1)),
    "linear, one row": (
        lambda x: F.linear(x, M[0, 0]).unsqueeze(-1).expand_as(x),
        lambda x: (x @ M[0, 0]).unsqueeze(-1).expand_as(x),
    ),
}  # fmt: skip


def _written(x: Tensor, value: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = value
    return x


def _copied(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :2].copy_(K[:2])
    return x


@pytest.mark.parametrize("case", SAME)
def test_seldom_spellings_are_explained_as_the_plain_ones(case: str) -> None:
    one, other, x = pair(*SAME[case])
    e, twin = torchbcos.explain(one, x, 1, verify=True), torchbcos.explain(other, x, 1, verify=True)
    assert float((e.outputs - one(x).detach()).abs().max()) < 1e-12
    assert float((e.weights - twin.weights).abs().max()) < 1e-12
    assert float((sum(e.constants.values()) - sum(twin.constants.values())).abs().max()) < 1e-12


OLD: dict[str, Callable[[Tensor], Tensor]] = {
    "add": lambda x: torch.add(x, 2, K),
    "sub": lambda x: torch.sub(x, 2, K),
    "add_": lambda x: x.clone().add_(2, K),
    "sub_": lambda x: x.clone().sub_(2, K),
    "addcmul": lambda x: torch.addcmul(x, 2, x, gate(x)),
    "addcmul_": lambda x: x.clone().addcmul_(0.5, x, gate(x)),
    "addcdiv": lambda x: torch.addcdiv(x, 2, x, gate(x)),
    "baddbmm": lambda x: torch.baddbmm(0.5, x.flatten(0, 1), 2, x.flatten(0, 1), M[:1].expand(8, 6, 6)).view_as(x),
    "diff": lambda x: torch.diff(x, dim=3, prepend=K.expand(len(x), 4, 6, 1)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:This overload")
@pytest.mark.parametrize("case", OLD)
def test_deprecated_spellings_are_refused_by_name(case: str) -> None:
    network, _, x = pair(OLD[case], OLD[case])
    with pytest.raises(StateError, match=f"'{case.strip('_')}' in the forward of Between"):
        torchbcos.explain(network, x, 1)
