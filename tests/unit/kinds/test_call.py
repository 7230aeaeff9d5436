"""What a rule says of a call that it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError


class Gate(nn.Module):
    def __init__(self, use: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.act, self.head, self.use = nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Linear(4, 5), use

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).flatten(2).transpose(1, 2)
        scores: Tensor = self.head(self.use(y, self.act(y)).mean(1))
        return scores


@pytest.mark.parametrize(
    "use",
    [
        lambda y, g: y + 2 * g,
        lambda y, g: g - y,
        lambda y, g: torch.cat([y[:, :4], g[:, 4:]], 1),
        lambda y, g: torch.where(y > 0, y, g),
        lambda y, g: torch.maximum(y, g),
        lambda y, g: F.scaled_dot_product_attention(y, y, g) + y,
    ],
    ids=["sum", "difference", "join", "where", "maximum", "attention"],
)
def test_who_gave_the_value_that_is_held(use: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(StateError, match=r"(held|signal); 'sigmoid' in 'act' \(Sigmoid\) gave it"):
        torchbcos.explain(Gate(use).eval(), torch.randn(2, 3, 6, 6))


class By(nn.Module):
    """A signal is changed by a function, and classified."""

    def __init__(self, use: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.use, self.conv, self.head = use, nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.use(self.conv(x)).mean((2, 3)))
        return scores


@pytest.mark.parametrize(
    ("by_name", "by_place"),
    [
        (lambda y: y + torch.mean(dim=1, keepdim=True, input=y), lambda y: y + torch.mean(y, 1, keepdim=True)),
        (lambda y: y + torch.sum(keepdims=True, axis=1, x=y), lambda y: y + torch.sum(y, 1, keepdim=True)),
        (lambda y: torch.roll(shifts=1, dims=1, input=y), lambda y: y.roll(1, 1)),
        (lambda y: F.avg_pool2d(kernel_size=3, input=y), lambda y: F.avg_pool2d(y, 3)),
        (lambda y: torch.gather(dim=1, index=y.argsort(1), input=y), lambda y: y.gather(1, y.argsort(1))),
        (lambda y: torch.mul(x2=y.sigmoid(), x=y), lambda y: y * y.sigmoid()),
        (lambda y: torch.add(x2=y.relu(), x1=y), lambda y: y + y.relu()),
        (lambda y: F.relu(inplace=True, input=y * 1), lambda y: y.relu()),
        (lambda y: torch.softmax(axis=1, input=y) * y, lambda y: y.softmax(1) * y),
    ],
)
def test_keywords_have_no_order(by_name: Callable[[Tensor], Tensor], by_place: Callable[[Tensor], Tensor]) -> None:
    named, placed, x = By(by_name).eval(), By(by_place).eval(), torch.randn(2, 3, 6, 6)
    placed.load_state_dict(named.state_dict())
    one, two = torchbcos.explain(named, x), torchbcos.explain(placed, x)
    assert torch.allclose(one.weights, two.weights, atol=1e-6) and bool(one.complete.all())
