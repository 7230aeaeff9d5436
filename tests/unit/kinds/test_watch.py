"""The watch leaves nothing behind in the network that it watches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import torchbcos


class Remembering(nn.Module):
    """Attention whose table of positions is looked up once and kept, as LeViT keeps it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.kept = how, {}  # type: str, dict[str, Tensor]
        self.table, self.head = nn.Parameter(torch.randn(2, 9)), nn.Linear(3, 4)
        self.register_buffer("places", torch.arange(9).flip(0))

    def bias(self) -> Tensor:
        if "bias" not in self.kept:
            looked = self.table[:, self.places] if self.how == "index" else torch.stack([self.table[0], self.table[1]]).exp()
            self.kept["bias"] = looked if self.how == "index" else looked.add_(1).view(2, 9)
        return self.kept["bias"]

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(2).transpose(1, 2)[:, :9]
        share = (values.mean(2, keepdim=True) + self.bias()[:1].reshape(1, 1, 9)).softmax(-1)
        scores: Tensor = self.head((share @ values).mean(1))
        return scores


@pytest.mark.parametrize("how", ["index", "edited"])
def test_what_a_network_keeps_has_no_graph(how: str) -> None:
    model, x = Remembering(how).eval(), torch.randn(2, 3, 4, 4)
    e = torchbcos.explain(model, x)
    assert bool(e.complete.all())
    assert not model.kept["bias"].requires_grad
    copy.deepcopy(model)  # a tensor with a history cannot be copied
    assert torch.equal(torchbcos.explain(model, x).weights, e.weights)


def test_switches_of_gradients_are_those_of_the_network() -> None:
    class Switching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.weight, self.seen = nn.Linear(3, 4), nn.Parameter(torch.ones(3)), []  # type: ignore[var-annotated]

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(torch.is_grad_enabled())
            with torch.no_grad():
                self.seen.append(torch.is_grad_enabled())
                held = (x.mean((2, 3)) * self.weight).sigmoid()
            self.seen.append(torch.is_grad_enabled())
            scores: Tensor = self.head(x.mean((2, 3)) * held * (self.weight * 2))
            self.seen.append(torch.is_grad_enabled())
            return scores

    model = Switching().eval()
    assert bool(torchbcos.explain(model, torch.randn(2, 3, 4, 4)).complete.all())
    assert model.seen == [True, False, True, True]
