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


class Chain(nn.Module):
    """Activations one after the other: the step of autograd of each holds those before it, so that each hides a circle."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 2, 1), make()) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x).mean((2, 3))
        return out


MAKERS: list[Callable[[], nn.Module]] = [
    lambda: nn.ReLU(inplace=True), lambda: nn.ReLU6(inplace=True), lambda: nn.Hardtanh(-1, 2, inplace=True),
    lambda: nn.SiLU(inplace=True), lambda: nn.Hardswish(inplace=True), lambda: nn.LeakyReLU(0.1, inplace=True),
    lambda: nn.ELU(inplace=True), lambda: nn.Mish(inplace=True), nn.GELU, nn.Tanh, nn.Softplus, nn.LogSigmoid,
]  # fmt: skip


@pytest.mark.parametrize("look", [trace, torchbcos.explain])
def test_nothing_of_an_explanation_stays(look: Callable[[nn.Module, Tensor], object]) -> None:
    gc.collect()
    before = [o for o in gc.get_objects() if type(o) in (Call, Session)]  # what other tests hold
    for make in MAKERS:
        look(Chain(make).eval(), torch.rand(2, 2, 3, 3))
    gc.collect()  # once: of a chain of circles each pass would find the last one only
    left = [o for o in gc.get_objects() if type(o) in (Call, Session) and not any(o is one for one in before)]
    assert left == []
