"""The B-cos factor and the norm bias of a converted layer as one step of autograd, for its training.

Written out with autograd's own operations, `y · |cos|^(B-1) + bias · length` walks over maps as large as the output some twenty
times forward and backward, and keeps four of them. Here two are kept. Shapes: N images, C channels, O outputs, *S space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.frozen import current
from torchbcos.kernels.usable import steps_fit

__all__ = ["biased", "channel_squares", "trains"]


def trains(x: Tensor) -> bool:
    """Whether a layer is being trained by plain autograd: only then these steps are taken."""
    return torch.is_grad_enabled() and current() is None and steps_fit(x)


def channel_squares(x: Tensor) -> Tensor:
    """Sum of squares over channels, (N, C, *S) -> (N, 1, *S), with one pass over memory forward and one backward.

    >>> channel_squares(torch.tensor([[[3.0], [4.0]]]))
    tensor([[[25.]]])
    """
    found: Tensor = _ChannelSquares.apply(x)
    return found


class _ChannelSquares(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return norm.square_()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return x * (2 * g)


def biased(y: Tensor, norms: Tensor | None, lengths: Tensor | None, bias: Tensor | None, b: float, tiny: float) -> Tensor:
    """`y · (|y| / norms + tiny)^(B-1) + bias · lengths`, all derivatives of first and second order.

    Args:
        y: (N, O, *S), the linear output.
        norms: (N, 1, *S), of the patches; None where B is 1.
        lengths: (N, 1, *S), that the bias is multiplied by; None where there is none.
        bias: (O,) or None.
        b: exponent B ≥ 1.
        tiny: added to the cosine.

    >>> y, norms = torch.tensor([[[-2.0]]]), torch.tensor([[[4.0]]])
    >>> biased(y, norms, norms, torch.tensor([0.5]), 2.0, 0.0)
    tensor([[[1.]]])
    """
    found: Tensor = _Biased.apply(y, norms, lengths, bias, b, tiny)
    return found


class _Biased(Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, norms: Tensor | None, lengths: Tensor | None, bias: Tensor | None, b: float, tiny: float
    ) -> Tensor:
        cosines = None
        if norms is None:
            out = y.clone()
        else:
            cosines = y.abs().div_(norms)
            if tiny:
                cosines.add_(tiny)
            out = y * _power(cosines, b - 1)
        if lengths is not None and bias is not None:
            out.addcmul_(lengths.expand_as(out), _along(bias, out).expand_as(out))
        ctx.save_for_backward(y if norms is not None else None, norms, cosines, lengths, bias)
        ctx.b, ctx.tiny = b, tiny
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        y, norms, cosines, lengths, bias = ctx.saved_tensors
        if torch.is_grad_enabled() and y is not None:  # create_graph=True: by operations that have derivatives
            wanted = [t for t, needed in zip((y, norms, lengths, bias), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(_plain(y, norms, lengths, bias, ctx.b, ctx.tiny), wanted, g, create_graph=True))
            return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:4]), None, None)
        gl, gb = (None, None) if lengths is None or bias is None else _of_bias(g, lengths, bias)
        if y is None:
            return g, None, gl, gb, None, None
        b, tiny = ctx.b, ctx.tiny
        # d/dy of y·(c + t)^(B-1) with c = |y|/n is (c + t)^(B-1) · (1 + (B-1)·c/(c + t))
        held = g * _power(cosines, b - 1)
        if tiny:
            one = cosines.new_ones(())
            slope = torch.addcdiv(one * b, one, cosines, value=-(b - 1) * tiny)
            gy = slope * held  # not in place: of many gradients at once (vmap) `held` alone has the axis of these
            rest = (gy - held).mul_(y)
        else:
            gy = held * b
            rest = (held * y).mul_(b - 1)
        gn = rest.sum(1, keepdim=True).div_(norms).neg_()
        return gy, gn, gl, gb, None, None


def _plain(y: Tensor, norms: Tensor, lengths: Tensor | None, bias: Tensor | None, b: float, tiny: float) -> Tensor:
    """`biased` by operations of torch."""
    out = y * ((y / norms).abs() + tiny) ** (b - 1)
    return out if lengths is None or bias is None else out + _along(bias, out) * lengths


def _power(x: Tensor, exponent: float) -> Tensor:
    """A new tensor; roots where they will do, since `pow` is ten times slower."""
    if exponent == 1:
        return x
    if exponent == 0.5:
        return x.sqrt()
    if exponent == 0.25:
        return x.sqrt().sqrt_()
    return x.sqrt().mul_(x.sqrt().sqrt_()) if exponent == 0.75 else x.pow(exponent)


def _along(bias: Tensor, like: Tensor) -> Tensor:
    return bias.reshape(-1, *[1] * (like.dim() - 2))


def _of_bias(g: Tensor, lengths: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `bias · lengths`, each one matrix product."""
    rows = g.movedim(1, -1).reshape(-1, g.shape[1])  # no copy where channels come last in memory
    return (rows @ bias).reshape(lengths.shape), lengths.reshape(-1) @ rows
