"""Batch statistics and the uncentred batch norm as one step of autograd.

Shapes: N images, C channels, *S space.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core import torch_private
from torchbcos.kernels.conv import again, again_with_graph, makes, places, waits
from torchbcos.kernels.lengths import overflow_shown

__all__ = ["channel_statistics", "fused_batch_norm", "per_channel", "uncentered_batch_norm"]


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of every channel (C,), in two passes: no cancellation.

    torch computes them for its own batch norm about twenty times as fast as `var_mean` does over
    the same axes of a channels_last tensor.
    """
    mean, var = torch_private.channel_statistics(x.detach())
    return mean, var


def fused_batch_norm(
    x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None, training: bool = False,
    momentum: float = 0.0, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """torch's own batch norm, and its right gradient for a batch of one.

    torch 2.14 takes one image whose axes lie oddly in memory (`tokens.transpose(1, 2).reshape(1, C, H, W)`) for channels_last,
    and reads a gradient of the usual order as if it were, too, or the other way round: the norm is right and its gradient wrong
    (on a CPU). Both are copied then, and only then.

    Args:
        x: (N, C, *S).
        mean, var, weight, bias: (C,) or None.
        training, momentum, eps: as in `torch.nn.functional.batch_norm`.

    Returns:
        A tensor like x.
    """
    alone = x.shape[0] == 1 and x.dim() > 3 and not torch.compiler.is_compiling() and not torch_private.transformed()
    y = F.batch_norm(_regular(x) if alone else x, mean, var, weight, bias, training, momentum, eps)
    if alone and y.requires_grad:
        y.register_hook(_regular)  # type: ignore[no-untyped-call]
    return y


def _regular(x: Tensor) -> Tensor:
    """One image (1, C, *S), copied where the stride of its first axis is another than its size."""
    return x.contiguous() if x.stride(0) != x.numel() else x


def per_channel(values: Tensor, ndim: int) -> Tensor:
    """(C,) as (1, C, 1, ...)."""
    return values.reshape(1, -1, *[1] * (ndim - 2))


def uncentered_batch_norm(
    x: Tensor, weight: Tensor | None, eps: float, *, watched: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`x / sqrt(var + eps) · weight` with the batch's variance about its mean.

    Args:
        x: (N, C, *S), float32 or float64.
        weight: (C,) or None.
        eps: added to the variance.
        watched: somebody may have written into `x`; it is kept.

    Returns:
        The normalised tensor, and mean and population variance (C,), which carry no gradient.
    """
    # hooks on saved tensors (torch.utils.checkpoint) let the convolution's be unpacked once, by itself
    keeps = watched or torch_private.saved_tensor_hooks() or not makes(x.grad_fn, x)
    producer = None if keeps else x.grad_fn
    out: tuple[Tensor, Tensor, Tensor] = _UncenteredBatchNorm.apply(x, weight, eps, producer)
    return out


def _plain(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """The same by operations that autograd can differentiate again."""
    dims = [0, *range(2, x.dim())]
    y = x / overflow_shown(x.var(dims, correction=0, keepdim=True) + eps).sqrt()
    return y if weight is None else y * per_channel(weight, x.dim())


class _UncenteredBatchNorm(Function):
    """Keeps its input only; where a B-cos convolution made that input, not even this.

    Why a norm reads what the node before it saved: a training step has to keep, for every layer, what its backward pass
    needs. A plain network keeps two maps a layer, the convolution's input and the norm's input. The B-cos convolution
    keeps its input and its linear output y; its result `y · |y| / ‖patch‖` would be a third map, kept by the norm alone.
    That result is made again from y in three passes over memory, so the norm keeps the autograd node of the convolution
    (`x.grad_fn`) instead, and a B-cos layer keeps two maps, as a plain one does. The node outlives the norm's backward
    pass, for autograd runs it, and frees what it saved, only afterwards. Hooks on saved tensors (torch.utils.checkpoint)
    unpack them once for each node: with them the norm keeps its input. It keeps it too where somebody wrote into the
    convolution's result (`makes`). On an accelerator a write that torch does not count shows in the backward pass only: the
    gradients are then NaN, never those of another input. Measured in docs/decisions/003.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float, producer: Any) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = channel_statistics(x)
        inverse = overflow_shown(var + eps).rsqrt()
        ctx.producer, ctx.eps = producer, eps
        ctx.save_for_backward(x if producer is None else None, weight, mean, inverse)
        ctx.seen = None if producer is None or not waits(x) else x[places(x)].clone()
        ctx.mark_non_differentiable(mean, var)
        scale = inverse if weight is None else inverse * weight
        return x * per_channel(scale, x.dim()), mean, var

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            gx, gw = _differentiable(ctx, g, x, weight)
            return gx, gw, None, None
        if x is None:
            x = again(ctx.producer)
            if ctx.seen is not None:
                g = g * _one_where_equal(x[places(x)], ctx.seen)
        dims = [0, *range(2, x.dim())]
        along = (g * x).sum(dims)
        gx = None
        if ctx.needs_input_grad[0]:
            scale = inverse if weight is None else inverse * weight
            slope = -along * scale * inverse.square() / (math.prod(x.shape) // x.shape[1])
            gx = g * per_channel(scale, x.dim())
            gx.addcmul_(x, per_channel(slope, x.dim())).sub_(per_channel(slope * mean, x.dim()))
        return gx, (along * inverse if ctx.needs_input_grad[1] else None), None, None


def _one_where_equal(found: Tensor, seen: Tensor) -> Tensor:
    """1, or NaN where two tensors differ, without waiting for the device."""
    return torch.where((found == seen).all(), 1.0, math.nan).to(found.dtype)


def _differentiable(ctx: Any, g: Tensor, x: Tensor | None, weight: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with a graph (create_graph=True)."""
    if x is None:
        x = again_with_graph(ctx.producer)
    wanted = [t for t, needed in zip((x, weight), ctx.needs_input_grad, strict=False) if needed and t is not None]
    found = iter(torch.autograd.grad(_plain(x, weight, ctx.eps), wanted, g, create_graph=True))
    gx, gw = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
    return gx, gw
