"""The B-cos linear layer, b = 2 with MaxOut, as one step of autograd.

Outside explanations a layer keeps its input, the chosen outputs y, which filter was chosen, and one number a row; while an
explanation runs, only the factor `|y| / ‖x‖` and the choice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.frozen import current
from torchbcos.kernels.lengths import inverse, length, never_zero, overflow_shown
from torchbcos.kernels.linear import differentiated, gradients
from torchbcos.kernels.onednn import product
from torchbcos.kernels.unitnorm import unit_norm

__all__ = ["largest", "maxout_linear"]


def maxout_linear(x: Tensor, weight: Tensor, norm_eps: float, *, max_out: int, unit: bool = False) -> Tensor:
    """`y · |y| / (‖x‖ + norm_eps)` over the last axis, y the largest of `max_out` consecutive rows; `unit`: at unit norm."""
    rows = unit_norm(weight) if unit else weight
    if current() is not None:
        held: Tensor = _FrozenMaxOut.apply(x, rows, norm_eps, max_out)
        return held
    if torch.is_grad_enabled() and (x.requires_grad or rows.requires_grad):
        out: Tensor = _MaxOut.apply(x, rows, norm_eps, max_out)
        return out
    y, _ = _largest(product(x, rows), max_out)
    return y.abs().mul_(inverse(length(x), norm_eps)).mul_(y)


def _largest(y: Tensor, max_out: int) -> tuple[Tensor, Tensor]:
    """(..., O) of (..., O · M), and the choice: which of the M; of two, whether it was the first."""
    if max_out == 2:
        first, second = y[..., ::2], y[..., 1::2]
        return torch.maximum(first, second), first >= second
    best: tuple[Tensor, Tensor] = y.reshape(*y.shape[:-1], y.shape[-1] // max_out, max_out).max(-1)
    return best[0], best[1]


def largest(y: Tensor, max_out: int) -> Tensor:
    """(..., O) of (..., O · M), by operations that autograd can differentiate twice; of equal ones the first counts."""
    if max_out == 2:
        first, second = y[..., ::2], y[..., 1::2]
        return torch.where((first >= second) | first.isnan(), first, second)  # what is no number stays to be seen
    best: Tensor = y.reshape(*y.shape[:-1], y.shape[-1] // max_out, max_out).max(-1).values
    return best


def _given_back(g: Tensor, choice: Tensor, max_out: int) -> Tensor:
    """(..., O · M) of (..., O): to the filter that was chosen."""
    if max_out != 2:
        return g.new_zeros(*g.shape, max_out).scatter(-1, choice.unsqueeze(-1), g.unsqueeze(-1)).flatten(-2)
    if torch.is_grad_enabled() and g.requires_grad:
        return torch.stack([g * choice, g * ~choice], -1).flatten(-2)
    out = g.new_empty(*g.shape, 2)
    torch.mul(g, choice, out=out[..., 0])
    torch.sub(g, out[..., 0], out=out[..., 1])
    return out.flatten(-2)


class _MaxOut(Function):
    """A B-cos linear layer with MaxOut, b = 2, outside explanations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_eps: float, max_out: int) -> Tensor:
        y, choice = _largest(product(x, weight), max_out)
        norm = length(x)
        ctx.save_for_backward(x, weight, y, choice, norm)
        ctx.norm_eps, ctx.max_out = norm_eps, max_out
        return y.abs().mul_(inverse(norm, norm_eps)).mul_(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, y, choice, norm = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = _plain(x, weight, ctx.norm_eps, ctx.max_out)
            return *differentiated(plain, x, weight, g, ctx.needs_input_grad), None, None
        scale = inverse(norm, ctx.norm_eps)
        gy = (y.abs() * g).mul_(2 * scale)
        rows = _given_back(gy, choice, ctx.max_out)
        return *gradients(x, weight, rows, gy, y, scale, norm, ctx.needs_input_grad), None, None


class _FrozenMaxOut(Function):
    """The same with the factor `|y| / ‖x‖` and the choice held."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_eps: float, max_out: int) -> Tensor:
        y, choice = _largest(product(x, weight), max_out)
        factor = y.abs().mul_(inverse(length(x), norm_eps))
        ctx.save_for_backward(factor, choice, weight)
        ctx.max_out = max_out
        return y.mul_(factor) if max_out == 2 else y * factor

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        factor, choice, weight = ctx.saved_tensors
        return product(_given_back(g * factor, choice, ctx.max_out), weight.t()), None, None, None


def _plain(x: Tensor, weight: Tensor, norm_eps: float, max_out: int) -> Tensor:
    """The same linear layer by operations that autograd can differentiate again."""
    y = largest(F.linear(x, weight), max_out)
    return y * y.abs() / (overflow_shown(never_zero((x * x).sum(-1, keepdim=True))).sqrt() + norm_eps)
