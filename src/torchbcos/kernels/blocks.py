"""Products with a tensor's own size, block by block.

`y · |y| / ‖patch‖` written as three operations reads a large tensor from memory three times. In blocks the second and third
operation find their numbers in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torchbcos._core.torch_private import dispatch_mode

__all__ = ["blocks", "by_rows", "group_sums", "slope", "square_over", "times_own_size_"]

_BLOCK = 2**18  # numbers: 1 MiB in float32, of which two or three tensors fit into a core's cache


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` rows, each of about `_BLOCK` numbers; one where operations are recorded, for any number of rows."""
    if dispatch_mode():
        return iter((slice(None),))
    step = max(1, _BLOCK // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def by_rows(y: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) in channels_last as rows of C, and a map (N, 1, H, W) as rows of one number; others unchanged."""
    if y.dim() == 4 and factor.shape[1] == 1 and y.is_contiguous(memory_format=torch.channels_last):
        return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1]), factor.permute(0, 2, 3, 1).reshape(-1, 1)
    return y, factor.expand(len(y), *factor.shape[1:])


def times_own_size_(y: Tensor, inverse: Tensor, factor: Tensor | None = None, gain: Tensor | None = None) -> Tensor:
    """`y` times `|y| · inverse · gain`, in place and block by block; `factor`, like y, keeps the multiplier if it is given.

    `gain` is one number for every channel (C,), or None: one.
    """
    rows, inverses = by_rows(y, inverse)
    kept = None if factor is None else by_rows(factor, inverse)[0]
    gains = None if gain is None else gain.reshape(-1, *[1] * (rows.dim() - 2))
    for block in blocks(len(rows), rows[0].numel() if len(rows) else 1):
        part = rows[block]
        size = part.abs() if kept is None else torch.abs(part, out=kept[block])
        if gains is not None:
            size.mul_(gains)
        part.mul_(size.mul_(inverses[block]))
    return y


def square_over(y: Tensor, inverse: Tensor) -> Tensor:
    """`y |y| · inverse`, block by block."""
    out = torch.empty_like(y)
    (rows, inverses), to = by_rows(y, inverse), by_rows(out, inverse)[0]
    for block in blocks(len(rows), rows[0].numel() if len(rows) else 1):
        torch.abs(rows[block], out=to[block]).mul_(inverses[block]).mul_(rows[block])
    return out


def slope(y: Tensor, twice: Tensor, g: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """`|y| · twice · g`, and the sums of that times y over the channels of every group, block by block."""
    rows, factors = by_rows(y, twice)
    if rows is y or groups > 1:
        gy = (y.abs() * g).mul_(twice)
        return gy, group_sums(gy * y, groups)
    gy, along = torch.empty_like(y), torch.empty_like(twice, memory_format=torch.channels_last)
    g = g.contiguous(memory_format=torch.channels_last)
    to, sums, from_ = by_rows(gy, twice)[0], along.permute(0, 2, 3, 1).reshape(-1, 1), by_rows(g, twice)[0]
    for block in blocks(len(rows), rows.shape[1]):
        part = torch.abs(rows[block], out=to[block]).mul_(from_[block]).mul_(factors[block])
        torch.sum(part * rows[block], 1, keepdim=True, out=sums[block])
    return gy, along


def group_sums(products: Tensor, groups: int) -> Tensor:
    """Sum over the output channels of every group: (N, G, *S')."""
    if groups == products.shape[1]:
        return products
    if groups == 1:
        return products.sum(1, keepdim=True)
    return products.reshape(products.shape[0], groups, -1, *products.shape[2:]).sum(2)
