"""Products block by block are the products at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbcos.kernels import blocks


@given(rows=st.integers(1, 40), width=st.integers(1, 30), size=st.integers(1, 200))
def test_blocks_cover_every_row_once(rows: int, width: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK", size)
        seen = [k for part in blocks.blocks(rows, width) for k in range(rows)[part]]
    assert seen == list(range(rows))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_steps_in_blocks_are_the_steps_at_once(layout: torch.memory_format, groups: int) -> None:
    y = torch.randn(3, 8, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    inverse = torch.rand(3, 8 if groups > 1 else 1, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    g = torch.randn_like(y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK", 24)
        factor = torch.empty_like(y)
        torch.testing.assert_close(blocks.square_over(y, inverse), y * y.abs() * inverse)
        torch.testing.assert_close(blocks.times_own_size_(y.clone(), inverse, factor), y * y.abs() * inverse)
        torch.testing.assert_close(factor, y.abs() * inverse)
        if groups == 1:
            gy, along = blocks.slope(y, inverse, g, groups)
            torch.testing.assert_close(gy, y.abs() * g * inverse)
            torch.testing.assert_close(along, (y.abs() * g * inverse * y).sum(1, keepdim=True))
