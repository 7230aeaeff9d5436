"""The convolution of a converted layer, outside its training, as one step of autograd.

`y · |cos|^(B-1) + bias · ‖patch‖` written out walks over maps as large as the output some eight times. Here factor and bias are
multiplied into the convolution's output block by block, and an explanation keeps the factor alone. Shapes: N images,
C channels, O outputs, *S space.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.frozen import current
from torchbcos.kernels.blocks import blocks, by_rows
from torchbcos.kernels.conv import input_gradient, linear_output
from torchbcos.kernels.geometry import Geometry
from torchbcos.kernels.lengths import overflow_shown
from torchbcos.kernels.onednn import Packed
from torchbcos.kernels.patches import patch_squared_norms, spread_sums

__all__ = ["converted"]


def converted(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, b: float, eps: float, tiny: float,
    packed: Packed | None = None,
) -> Tensor:  # fmt: skip
    """`y · (|y| / n + tiny)^(B-1) + bias · ‖patch‖² / n` with n = sqrt(‖patch‖² + eps), the patch over all channels.

    Nothing of it is recorded for a derivative, but W while an explanation runs: of it, factor and 1 / n are constants.

    Args:
        x: (N, C, *S).
        weight: (O, C/G, *kernel); more than one group only with B = 1.
        bias: (O,) or None.
        b: exponent B ≥ 1.
        eps: above 0, inside the root.
        tiny: added to the cosine.

    >>> x, weight = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[2.0], [0.0]]])
    >>> converted(x, weight, torch.tensor([0.5]), Geometry((1,), (1,), (0,), (1,), 1), 2.0, 1e-12, 0.0)
    tensor([[[9.7000]]])
    """
    if current() is not None:
        held: Tensor = _HeldConverted.apply(x, weight, bias, geometry, b, eps, tiny, packed)
        return held
    y = linear_output(x, weight, geometry, packed)
    _scale_(y, *_lengths(x, geometry, eps, b, bias), bias, b, tiny)
    return y


def _lengths(x: Tensor, geometry: Geometry, eps: float, b: float, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """`1 / n` and `‖patch‖² / n`, (N, 1, *S') each; None where neither factor nor bias needs them."""
    if b == 1 and bias is None:
        return None, None
    squares = patch_squared_norms(x, replace(geometry, groups=1))
    inverse = overflow_shown(squares).add_(eps).rsqrt_()
    return inverse, None if bias is None else squares * inverse


def _scale_(
    y: Tensor, inverse: Tensor | None, lengths: Tensor | None, bias: Tensor | None, b: float, tiny: float,
    factor: Tensor | None = None,
) -> None:  # fmt: skip
    """Multiply the factor into `y`, and add the bias; `factor`, like y, keeps the factor if it is given."""
    if inverse is None:
        return
    rows, inverses = by_rows(y, inverse)
    kept = None if factor is None else by_rows(factor, inverse)[0]
    along = None if bias is None else bias.reshape(-1, *[1] * (rows.dim() - 2))
    far = None if lengths is None else by_rows(y, lengths)[1]
    for block in blocks(len(rows), rows[0].numel() if len(rows) else 1):
        part = rows[block]
        if b != 1:
            size = part.abs() if kept is None else torch.abs(part, out=kept[block])
            size.mul_(inverses[block])
            if tiny:
                size.add_(tiny)
            part.mul_(_power_(size, b - 1))
        if along is not None and far is not None:
            part.addcmul_(far[block], along)


def _power_(x: Tensor, exponent: float) -> Tensor:
    """In place; roots where they will do, since `pow` is ten times slower."""
    if exponent == 1:
        return x
    return x.sqrt_() if exponent == 0.5 else x.pow_(exponent)


class _HeldConverted(Function):
    """The same while an explanation runs: linear in x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, b: float, eps: float, tiny: float,
        packed: Packed | None,
    ) -> Tensor:  # fmt: skip
        y = linear_output(x, weight, geometry, packed)
        inverse, lengths = _lengths(x, geometry, eps, b, bias)
        factor = None if b == 1 else torch.empty_like(y)
        _scale_(y, inverse, lengths, bias, b, tiny, factor)
        kept = (x, bias, inverse) if bias is not None else (None, None, None)
        ctx.save_for_backward(factor, weight, *kept)
        ctx.geometry, ctx.shape, ctx.packed, ctx.session = geometry, x.shape, packed, current()
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        factor, weight, x, bias, inverse = ctx.saved_tensors
        spread = None
        if bias is not None:
            rows = g.movedim(1, -1).reshape(-1, g.shape[1])  # no copy where channels come last in memory
            along = (rows @ bias).reshape(g.shape[0], 1, *g.shape[2:]) * inverse
            spread = spread_sums(along, replace(ctx.geometry, groups=1), ctx.shape[2:])
        if factor is not None:
            g = factor.mul_(g) if ctx.session is not None and ctx.session.final else factor * g
        gx = input_gradient(g, weight, ctx.geometry, ctx.shape, ctx.packed)  # x below is held: a direction, and no signal
        return gx if spread is None else gx.addcmul_(x.detach(), spread), *[None] * 7
