"""What a refusal advises where an operation without a rule bends the signal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError
from torchbcos.kinds.operation import spelled
from torchbcos.kinds.rules.reading import _HELPS


class Ends(nn.Module):
    def __init__(self, tail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.tail = nn.Conv2d(3, 5, 2), tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("tail", [
    nn.LogSoftmax(1), lambda x: F.log_softmax(x, 1), lambda x: x.log_softmax(1), torch.ops.aten._log_softmax,
])  # fmt: skip
def test_logits_are_named_where_log_softmax_bends(tail: Callable[..., Tensor]) -> None:
    def run(x: Tensor) -> Tensor:
        return tail(x, 1, False) if isinstance(tail, torch._ops.OpOverloadPacket) else tail(x)

    with pytest.raises(StateError, match=r'Explain the logits: leave log_softmax out, or say explain\(…, at="…"\)'):
        torchbcos.explain(Ends(run), torch.rand(1, 3, 4, 4), 1)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_what_goes_into_a_recurrent_layer_can_be_explained(cell: Callable[[int, int], nn.Module]) -> None:
    layer = cell(5, 4)

    def run(x: Tensor) -> Tensor:
        found = layer(x)
        return found[0] if isinstance(found, tuple) else found

    with pytest.raises(StateError, match=r'Explain what goes into it: explain\(…, at="…"\)') as refusal:
        torchbcos.explain(Ends(run), torch.rand(1, 3, 4, 4), 1)
    assert len(str(refusal.value)) <= 500
    with pytest.raises(StateError, match="register_rule"):  # others say what they said
        torchbcos.explain(Ends(torch.sin), torch.rand(1, 3, 4, 4), 1)


def test_every_help_is_of_an_operation_of_torch() -> None:
    spaces = (torch, F, torch._VF)
    assert all(any(hasattr(space, name) for space in spaces) for name in _HELPS)
    assert spelled(torch.log_softmax) == "log_softmax"
