"""What an explanation keeps of a network's signals while it runs is free afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.frozen import Session
from torchbcos.kinds import Call, trace


class Residual(nn.Module):
    """What came out of an activation in place is read twice: other steps of autograd hold its own."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(2, 3, 3), act, nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        return (self.second(x) + x).mean((2, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.ReLU(inplace=True), lambda: nn.ReLU6(inplace=True), lambda: nn.Hardtanh(-1, 2, inplace=True),
        lambda: nn.SiLU(inplace=True), lambda: nn.Hardswish(inplace=True), lambda: nn.LeakyReLU(0.1, inplace=True),
        lambda: nn.ELU(inplace=True), lambda: nn.Mish(inplace=True), nn.GELU, nn.Tanh, nn.Softplus, nn.LogSigmoid,
    ],
)  # fmt: skip
@pytest.mark.parametrize("look", [trace, torchbcos.explain])
def test_nothing_of_an_explanation_stays(make: Callable[[], nn.Module], look: Callable[[nn.Module, Tensor], object]) -> None:
    network = Residual(make()).eval()
    look(network, torch.rand(2, 2, 6, 6))
    gc.collect()
    left = [type(o).__name__ for o in gc.get_objects() if type(o) in (Call, Session)]
    assert left == []
