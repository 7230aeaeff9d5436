"""The B-cos linear layer, b = 2 without MaxOut, as one step of autograd.

Outside explanations a layer keeps its input, the linear output y and one number a row; while an explanation runs, only the
factor `|y| / ‖x‖`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.frozen import current
from torchbcos.kernels.lengths import inverse, length, never_zero, overflow_shown
from torchbcos.kernels.onednn import product
from torchbcos.kernels.unitnorm import unit_gain, unit_norm

__all__ = ["differentiated", "gradients", "linear"]


def linear(x: Tensor, weight: Tensor, norm_eps: float, *, unit: bool = False) -> Tensor:
    """`y · |y| / (‖x‖ + norm_eps)` of y = x wᵀ over the last axis; `unit`: of rows at unit norm, as in `conv`."""
    if current() is not None:
        held: Tensor = _FrozenLinear.apply(x, weight, norm_eps, unit)
        return held
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        out: Tensor = _Linear.apply(x, unit_norm(weight) if unit else weight, norm_eps)
        return out
    y = product(x, weight)
    return _factor(y, x, weight, norm_eps, unit).mul_(y)


def _factor(y: Tensor, x: Tensor, weight: Tensor, norm_eps: float, unit: bool) -> Tensor:
    """`|y| / (‖x‖ + norm_eps)`, and over ‖w‖² for rows that are used at unit norm."""
    size = y.abs()
    if unit:
        size.mul_(unit_gain(weight))
    return size.mul_(inverse(length(x), norm_eps))


class _Linear(Function):
    """A B-cos linear layer, b = 2, outside explanations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_eps: float) -> Tensor:
        y, norm = product(x, weight), length(x)
        ctx.save_for_backward(x, weight, y, norm)
        ctx.norm_eps = norm_eps
        return y.abs().mul_(inverse(norm, norm_eps)).mul_(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, y, norm = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *differentiated(_plain(x, weight, ctx.norm_eps), x, weight, g, ctx.needs_input_grad), None
        scale = inverse(norm, ctx.norm_eps)
        gy = (y.abs() * g).mul_(2 * scale)
        return *gradients(x, weight, gy, gy, y, scale, norm, ctx.needs_input_grad), None


def differentiated(
    plain: Tensor, x: Tensor, weight: Tensor, g: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """The gradients of x and weight, of a value that autograd recorded, so that they can be differentiated again."""
    wanted = [t for t, need in zip((x, weight), needed, strict=False) if need]
    found = iter(torch.autograd.grad(plain, wanted, g, create_graph=True))
    gx, gw = (next(found) if need else None for need in needed[:2])
    return gx, gw


def gradients(
    x: Tensor, weight: Tensor, rows: Tensor, gy: Tensor, y: Tensor, scale: Tensor, norm: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """The gradients of x and weight.

    Args:
        x, weight: (..., D), (R, D).
        rows: (..., R) gradient of the products of all rows.
        gy: (..., O) gradient of the outputs y that count, which is used up: `rows` itself where all do.
        y, scale, norm: those outputs; `1 / (‖x‖ + norm_eps)` and `‖x‖`, (..., 1).
        needed: which of the two.
    """
    gx = gw = None
    if needed[1]:
        gw = product(rows.flatten(0, -2).t(), x.flatten(0, -2).t()) if x.dim() > 1 else torch.outer(rows, x)
    if needed[0]:
        gx = product(rows, weight.t())
        # d out / d ‖x‖ = -y|y| / (‖x‖ + norm_eps)², and d ‖x‖ / dx = x / ‖x‖
        gx.addcmul_(x, gy.mul_(y).sum(-1, keepdim=True).mul_(scale).div_(norm), value=-0.5)
    return gx, gw


class _FrozenLinear(Function):
    """The same with the factor `|y| / ‖x‖` held."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_eps: float, unit: bool) -> Tensor:
        y = product(x, weight)
        factor = _factor(y, x, weight, norm_eps, unit)
        ctx.save_for_backward(factor, weight)
        return y.mul_(factor)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        factor, weight = ctx.saved_tensors
        return product(g * factor, weight.t()), None, None, None


def _plain(x: Tensor, weight: Tensor, norm_eps: float) -> Tensor:
    """The same linear layer by operations that autograd can differentiate again."""
    y = F.linear(x, weight)
    return y * y.abs() / (overflow_shown(never_zero((x * x).sum(-1, keepdim=True))).sqrt() + norm_eps)
