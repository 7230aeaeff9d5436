"""Linear maps: new tensors, and what uninitialised memory leaves in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos

MAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "empty_like": torch.empty_like,
    "new_empty": lambda x: x.new_empty(x.shape),
    "empty": lambda x: torch.empty(x.shape, dtype=x.dtype),
    "empty_strided": lambda x: torch.empty_strided(x.shape, x.stride(), dtype=x.dtype),
}


class Overwrites(nn.Module):
    """Writes a signal into a new tensor, one half after the other."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 4, 3), make

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out = self.make(x)
        out[:, :2], out[:, 2:] = x[:, :2], x[:, 2:].relu()
        return out.mean((2, 3))


@pytest.mark.parametrize("make", MAKES)
def test_what_empty_leaves_is_no_constant(make: str) -> None:
    network, x = Overwrites(MAKES[make]).double().eval(), torch.rand(2, 3, 6, 6, dtype=torch.float64)
    torch.utils.deterministic.fill_uninitialized_memory, before = True, torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)  # then torch fills new memory with NaN
    try:
        e = torchbcos.explain(network, x, verify=True)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = before
    assert list(e.constants) == ["conv.bias"] and bool(e.complete.all())
