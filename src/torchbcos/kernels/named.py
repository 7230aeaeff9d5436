"""Constants that an operation has added already, measured in the backward pass: the forward pass stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

__all__ = ["Named", "total_of", "totals_of"]

_MANY = 4096  # numbers beyond which products are summed in pairs: a dot product adds one after the other


class Named(Function):
    """Identity on `y`, which holds constants; the gradient of a constant's probe is what the constant gives to each image.

    `Named.apply(y, count, *constants, *probes)`: y (R, ...) is handed through as it is, each of `count` constants broadcasts
    to it, each probe is (N,) with R a multiple of N, or N = 1. In the backward pass a probe gets Σ gradient · constant over its
    image: what `y + constant · probe` would give it, without the sum.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, count: int, *rest: Tensor) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(*rest)
        ctx.mark_dirty(y)  # the same tensor, not a view of it: what follows may work in place
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        count = ctx.count
        rest = ctx.saved_tensors
        return g, None, *[None] * count, *totals_of(g, rest[:count], rest[count:], ctx.needs_input_grad[2 + count :])


def totals_of(
    g: Tensor, constants: Sequence[Tensor], probes: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:  # fmt: skip
    """`total_of` for several constants; where they are alike in shape the gradient is summed once."""
    summed: dict[Any, Tensor] = {}
    return [
        total_of(g, c, p, summed) if want else None for c, p, want in zip(constants, probes, wanted, strict=True)
    ]  # fmt: skip


def total_of(g: Tensor, constant: Tensor, probe: Tensor, summed: dict[Any, Tensor] | None = None) -> Tensor:
    """Σ g · constant for each image: (N,), as `probe` is.

    Args:
        g: (R, ...), R a multiple of N.
        constant: broadcasts to it.
        probe: (N,).
        summed: sums of g that were made before, by their axes.

    >>> total_of(torch.ones(4, 3), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2))
    tensor([12., 12.])
    """
    images, wide = probe.shape[0], probe.dtype
    same = [1] * (g.dim() - constant.dim()) + list(constant.shape)
    rows = same[0] if same else 1
    # one axis for images, one for the rows of an image
    alike = constant.reshape(1, 1, *same[1:]) if rows == 1 else constant.reshape(images, -1, *same[1:])
    apart = g.reshape(images, g.shape[0] // images if g.dim() else 1, *g.shape[1:])
    # over the axes along which the constant is one number, the gradient alone is summed: no map of products is made
    once = tuple(axis for axis in range(1, apart.dim()) if alike.shape[axis] == 1 and apart.shape[axis] > 1)
    found = None if summed is None else summed.get(once)
    if found is None:
        found = apart.sum(once, keepdim=True, dtype=wide) if once else apart.to(wide)
        if summed is not None:
            summed[once] = found
    if alike.shape[0] == 1 and alike.numel() <= _MANY:
        return torch.mv(found.reshape(images, -1), alike.reshape(-1).to(wide))
    return (found * alike.to(wide)).reshape(images, -1).sum(1)
