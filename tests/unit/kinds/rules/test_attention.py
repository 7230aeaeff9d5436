"""Attention in training: dropout of its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import torchbcos


class Attends(nn.Module):
    """Attention of places to each other, with dropout."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.weights = nn.Conv2d(3, 8, 2, 2, dtype=torch.float64), weights
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        out: Tensor = self.attend(x, x, x, need_weights=self.weights)[0].mean(1)
        return out


@pytest.mark.parametrize("weights", [False, True])
def test_dropout_in_attention_draws_as_torch_does(weights: bool) -> None:
    network, x = Attends(weights).train(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.manual_seed(7)
    want = network(x)
    torch.manual_seed(7)
    e = torchbcos.explain(network, x, 3)
    assert torch.allclose(e.outputs, want, atol=1e-13) and float(e.residual.abs().max()) < 1e-12
    torch.manual_seed(8)
    assert not torch.allclose(network(x), want)  # other numbers, another answer
    torchbcos.explain(network, x, 3, verify=True)
