"""Which operations let a network read a number of its input out of a size (the rest is in `planted_state.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.frozen import Session
from torchbcos.kinds import Watch

ONES = torch.ones(99)


def noted(f: Callable[[Tensor], object]) -> str:
    """The operation that let a number out; "" where none did."""
    with Session.of(nn.Identity(), torch.rand(2, 3, 6, 6) + 0.1) as state:
        watch = Watch(state)
        with watch:
            f(state.inputs)
        return "" if watch.origins.read is None else watch.origins.read.operation


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ONES[:3][x.mean((0, 2, 3)) > 0],  # as many as there are, this time
        lambda x: ONES[:1].expand((x > 0).sum() - 215),
        lambda x: torch.where(condition=x > 0),
        lambda x: F.interpolate(x, size=((x > 0).sum() - 210, 6)),
        lambda x: F.one_hot((x > 0).long().sum()),
        lambda x: torch.ops.aten.slice.Tensor(ONES, 0, 0, (x > 0).sum()),
        lambda x: torch.repeat_interleave((x > 0).long().flatten()),
        lambda x: ONES.split((x > 0).sum()),
    ],
)
def test_a_size_is_noted(f: Callable[[Tensor], object]) -> None:
    assert noted(f)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.gather(1, x.argmax(1, keepdim=True)),
        lambda x: x[:, x.mean((0, 2, 3)).topk(2).indices],
        lambda x: x.index_select(1, x.mean((0, 2, 3)).argsort()),
        lambda x: F.embedding((x > 0).long(), torch.ones(3, 4)),
        lambda x: x * (x > 0).sum() + torch.where(x > 0, x, 0.0),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),  # type: ignore[misc]
        lambda x: x.repeat_interleave(2, 1).narrow(1, 0, 2).tensor_split(2, 1)[0].expand(2, 5, 6, 6),
        lambda x: x.masked_fill(x > 0, 0.0),
        lambda x: torch.fft.fft(x),
        lambda x: (x > 0).any(1),
    ],
)
def test_other_operations_are_not(f: Callable[[Tensor], object]) -> None:
    assert noted(f) == ""
