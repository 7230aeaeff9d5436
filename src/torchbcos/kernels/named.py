"""Constants that an operation has added already, measured in the backward pass: the forward pass stays as it was."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.function import Function

__all__ = ["Named", "total_of"]


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
        constants, probes = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        wanted = ctx.needs_input_grad[2 + ctx.count :]
        found = [total_of(g, c, p) if want else None for c, p, want in zip(constants, probes, wanted, strict=True)]
        return g, None, *[None] * ctx.count, *found


def total_of(g: Tensor, constant: Tensor, probe: Tensor) -> Tensor:
    """Σ g · constant for each image: (N,), as `probe` is.

    >>> total_of(torch.ones(4, 3), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2))
    tensor([12., 12.])
    """
    images = probe.shape[0]
    same = [1] * (g.dim() - constant.dim()) + list(constant.shape)
    # over the axes along which the constant is one number, the gradient alone is summed: no map of products is made
    once = [axis for axis, size in enumerate(same) if size == 1 and axis > 0 and g.shape[axis] > 1]
    if images == 1 and same and same[0] == 1 and g.shape[0] > 1:
        once = [0, *once]
    wide = probe.dtype
    summed = g.sum(once, keepdim=True, dtype=wide) if once else g.to(wide)
    return (summed * constant.reshape(same).to(wide)).reshape(images, -1).sum(1)
