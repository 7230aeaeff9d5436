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
