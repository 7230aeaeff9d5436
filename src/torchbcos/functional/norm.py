"""Norms that stay linear once their spread is held.

Every norm here is `(x - mean) / sqrt(var + eps) * weight + bias`; centred or not, the variance
is taken about the mean (as in the official code), and only the spread is frozen: the mean is
linear in x. Shapes: N images, C channels, *S space, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant, check_mode, current, hold, mode, parameter
from torchbcos._core.torch_private import transformed
from torchbcos.functional.numbers import check_epsilon
from torchbcos.kernels.layernorm import FrozenLayerNorm
from torchbcos.kernels.lengths import overflow_shown

__all__ = [
    "affine", "batch_statistics", "check_images", "frozen_layer_norm", "group_norm", "instance_norm", "layer_norm", "normalize",
    "position_norm", "shift", "token_norm",
]  # fmt: skip


def normalize(
    x: Tensor, dims: Sequence[int], *, eps: float, centered: bool, mean: Tensor | None = None, var: Tensor | None = None
) -> Tensor:
    """`(x - mean) / sqrt(var + eps)` with statistics over `dims`, or with those given.

    Args:
        x: any shape; float16 and bfloat16 are computed in float32.
        dims: axes of the statistics.
        eps: added to the variance.
        centered: subtract the mean.
        mean, var: given statistics, broadcastable to x; a given mean is not linear in x and must
            be subtracted by the caller (see `shift`).

    Returns:
        A tensor like x.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    dims = list(dims)
    if var is None:
        var = hold(wide).var(dims, correction=0, keepdim=True)
    if centered and mean is None:
        wide = wide - wide.mean(dims, keepdim=True)
    return (wide / overflow_shown(hold(var + eps)).sqrt()).to(x.dtype)


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, dim: int) -> Tensor:
    """`x * weight + bias` along axis `dim`; the bias is a named constant of the explanation."""
    shape = [1] * x.dim()
    shape[dim] = -1
    if weight is not None:
        x = x * parameter(weight).reshape(shape).to(x.dtype)
    if bias is not None:
        x = add_constant(x, parameter(bias).reshape(shape).to(x.dtype), "bias")
    return x


def shift(x: Tensor, mean: Tensor, label: str) -> Tensor:
    """`x - mean` for a mean that does not depend on the image: a named constant."""
    return add_constant(x, -mean.to(x.dtype), label)


def batch_statistics(x: Tensor, dims: Sequence[int], *, sync: bool = False) -> tuple[Tensor, Tensor, int]:
    """Mean, population variance and count over `dims`, over all processes where `sync`.

    The variance is the mean of squared deviations, never `E[x²] - E[x]²`, whose cancellation
    costs three digits of the gradient.
    """
    dims = list(dims)
    count = math.prod([x.shape[d] for d in dims])
    if not (sync and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        return mean, var, count
    total = torch.tensor([float(count)], device=x.device, dtype=x.dtype)
    dist.all_reduce(total)
    reduce: Callable[[Tensor], Tensor] = dist_nn.all_reduce
    mean = reduce(x.sum(dims, keepdim=True)) / total
    var = reduce(((x - mean) ** 2).sum(dims, keepdim=True)) / total
    return mean, var, int(total.item())


@atom()
def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5, centered: bool = True,
) -> Tensor:  # fmt: skip
    """Statistics over all channels and positions of an image: (N, C, *S)."""
    check_images(x)
    check_epsilon(eps)
    if _native(x, weight, bias, centered):
        return _grouped(x, 1, weight, bias, eps)
    y = normalize(x, range(1, x.dim()), eps=eps, centered=centered)
    return affine(y, weight, bias, 1)


@atom()
def position_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5, centered: bool = True,
) -> Tensor:  # fmt: skip
    """Statistics over the channels of every position: (N, C, *S)."""
    check_images(x)
    check_epsilon(eps)
    if _native(x, weight, bias, centered):
        return torch.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, eps).movedim(-1, 1)
    if _held_in_one_step(x, weight, centered):
        y = frozen_layer_norm(x.movedim(1, -1), weight, eps).movedim(-1, 1)
        return affine(y, None, bias, 1)
    return affine(normalize(x, [1], eps=eps, centered=centered), weight, bias, 1)


@atom()
def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5,
    centered: bool = True,
) -> Tensor:  # fmt: skip
    """Statistics over each of `groups` groups of channels and all positions: (N, C, *S)."""
    check_images(x)
    check_epsilon(eps)
    if _native(x, weight, bias, centered):
        return _grouped(x, groups, weight, bias, eps)
    y = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    y = normalize(y, range(2, y.dim()), eps=eps, centered=centered).flatten(1, 2)
    return affine(y, weight, bias, 1)


@atom()
def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5, centered: bool = True,
) -> Tensor:  # fmt: skip
    """Statistics over the positions of every channel: (N, C, *S)."""
    check_images(x)
    check_epsilon(eps)
    if _native(x, weight, bias, centered):
        return _grouped(x, x.shape[1], weight, bias, eps)
    return affine(normalize(x, range(2, x.dim()), eps=eps, centered=centered), weight, bias, 1)


@atom()
def token_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5, centered: bool = True,
) -> Tensor:  # fmt: skip
    """Statistics over the last axis: (..., D), the layer norm of transformers."""
    check_epsilon(eps)
    if _native(x, weight, bias, centered):
        return torch.layer_norm(x, x.shape[-1:], weight, bias, eps)
    if _held_in_one_step(x, weight, centered):
        return affine(frozen_layer_norm(x, weight, eps), None, bias, -1)
    return affine(normalize(x, [-1], eps=eps, centered=centered), weight, bias, -1)


def _native(x: Tensor, weight: Tensor | None, bias: Tensor | None, centered: bool) -> bool:
    """True where torch's own norm is the same: centred, outside explanations, one dtype."""
    if not centered or mode() or current() is not None or torch.is_autocast_enabled(x.device.type):
        return False
    return x.numel() > 0 and all(p is None or p.dtype == x.dtype for p in (weight, bias))


def _held_in_one_step(x: Tensor, weight: Tensor | None, centered: bool) -> bool:
    """True in an explanation without parameter gradients, where a centred norm is one step of autograd."""
    state = current()
    if state is None or not state.detach or not centered or transformed():
        return False
    return x.dtype in (torch.float32, torch.float64) and (weight is None or weight.dtype == x.dtype)


@atom()
def frozen_layer_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Layer norm over the last axis with its spread held and no gradient for the weight."""
    check_mode()
    out: Tensor = FrozenLayerNorm.apply(x, None if weight is None else parameter(weight), eps)
    return out


def _grouped(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """torch's group norm; not `F.group_norm`, which refuses maps of one number."""
    return torch.group_norm(x, groups, weight, bias, eps)


def check_images(x: Tensor, channels: int | None = None) -> None:
    """Raise InputError unless x is (N, C, *S), floating point, with the expected channels."""
    if x.dim() < 3:
        tokens = " For (N, D) there is torchbcos.nn.TokenNorm, which takes (..., D)." if x.dim() == 2 else ""
        raise InputError(f"Norms want (N, C, *S) with at least one space axis, got shape {tuple(x.shape)}.{tokens}")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: convert it with .float().")
    if channels is not None and x.shape[1] != channels:
        tokens = " Tokens, with channels last, have torchbcos.nn.TokenNorm: this norm takes (N, C, *S)."
        raise InputError(
            f"Expected {channels} channels, got {x.shape[1]} (shape {tuple(x.shape)}).{tokens if x.shape[-1] == channels else ''}"
        )
