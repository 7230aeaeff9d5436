"""Norms of patches without a convolution: a patch's squared norm is the sum of squares of what it covers.

A convolution with ones, the obvious way, misses oneDNN's fast path on one map and took half of all inference time at small
sizes. Sums over a box are sums along one axis after the other. Shapes: N images, C channels, *S space, G groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import transformed
from torchbcos.kernels.geometry import CONVOLUTIONS, Geometry
from torchbcos.kernels.lengths import never_zero

__all__ = ["inverse_norms", "inverse_of_groups", "over_channels", "patch_squared_norms", "patch_sums", "spread_sums"]

# Up to so many maps are summed as shifted slices, which cost next to nothing for one. Depthwise layers have as many maps as
# channels: two depthwise convolutions along one axis each took 7 ms there, one 7x7 convolution 14.
_FEW = 8
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def patch_squared_norms(x: Tensor, geometry: Geometry) -> Tensor:
    """Squared norm of every patch and group of zero-padded input (N, C, *S): (N, G, *S')."""
    return patch_sums(_group_squares(x, geometry.groups), geometry)


def inverse_norms(x: Tensor, geometry: Geometry, eps: float, channels: int) -> Tensor:
    """`1 / sqrt(‖patch‖² + eps)`, to be broadcast over `channels` outputs."""
    squares = patch_squared_norms(x, geometry)
    positive = squares + eps if eps > 0 else never_zero(squares)
    positive.add_(squares, alpha=0)  # no number where squares overflowed: see `overflow_shown`
    return over_channels(positive.rsqrt_(), channels)


def _group_squares(x: Tensor, groups: int) -> Tensor:
    """Sum of squares over the channels of each group: (N, G, *S)."""
    if groups == x.shape[1]:
        return x * x
    if groups > 1:
        x = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
        return (x * x).sum(2)
    if x.shape[1] > 4 and _unrecorded(x) and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # one pass, without a tensor of squares
        return norm.square_()
    return (x * x).sum(1, keepdim=True)


def _unrecorded(x: Tensor) -> bool:
    """True where nobody differentiates or compiles: a length has no second derivative at zero, its square has."""
    if torch.compiler.is_compiling() or transformed():  # inside vmap older torch cannot even say which layout `x` has
        return False
    return not (torch.is_grad_enabled() and x.requires_grad)


def patch_sums(maps: Tensor, geometry: Geometry) -> Tensor:
    """Sum of every patch of (N, G, *S), zero padding counted: (N, G, *S')."""
    if geometry.pointwise:
        index = (slice(None), slice(None), *(slice(None, None, s) for s in geometry.stride))
        return maps[index] if any(s > 1 for s in geometry.stride) else maps
    for axis, (k, s, p, d) in enumerate(geometry.axes()):
        if k == s == 1 and p == 0:
            continue
        if maps.shape[1] > _FEW:
            ones, (s_, p_, d_) = maps.new_ones((maps.shape[1], 1, *geometry.along(axis, k))), geometry.alone(axis)
            maps = CONVOLUTIONS[len(geometry.kernel)](maps, ones, None, s_, p_, d_, maps.shape[1])
        else:
            maps = _box_sums(maps, axis + 2, k, s, p, d)
    return maps


def spread_sums(maps: Tensor, geometry: Geometry, space: torch.Size) -> Tensor:
    """The transpose of `patch_sums`: every position collects from the patches that contain it."""
    if geometry.pointwise and all(s == 1 for s in geometry.stride):
        return maps
    for axis, (k, s, p, d) in enumerate(geometry.axes()):
        if k == s == 1 and p == 0:
            continue
        if maps.shape[1] > _FEW:
            ones, (s_, p_, d_) = maps.new_ones((maps.shape[1], 1, *geometry.along(axis, k))), geometry.alone(axis)
            left = geometry.along(axis, space[axis] - ((maps.shape[2 + axis] - 1) * s - 2 * p + d * (k - 1) + 1), 0)
            maps = _TRANSPOSED[len(geometry.kernel)](maps, ones, None, s_, p_, left, maps.shape[1], d_)
        else:
            maps = _spread_box_sums(maps, axis + 2, k, s, p, d, space[axis])
    return maps


def _box_sums(maps: Tensor, dim: int, k: int, s: int, p: int, d: int) -> Tensor:
    """Sums of `k` neighbours along one axis, as `k` shifted slices: a few small maps need no convolution."""
    size = maps.shape[dim]
    count = (size + 2 * p - d * (k - 1) - 1) // s + 1
    if p:
        before = [0] * (2 * (maps.dim() - dim))
        before[-2:] = [p, p]
        maps = F.pad(maps, before)
    total = _slice(maps, dim, 0, s, count)
    for i in range(1, k):
        total = total + _slice(maps, dim, i * d, s, count)
    return total


def _spread_box_sums(maps: Tensor, dim: int, k: int, s: int, p: int, d: int, size: int) -> Tensor:
    """The transpose of `_box_sums`, back to `size` positions."""
    shape = list(maps.shape)
    shape[dim] = size + 2 * p
    total = maps.new_zeros(shape)
    for i in range(k):
        _slice(total, dim, i * d, s, maps.shape[dim]).add_(maps)
    return total.narrow(dim, p, size)


def _slice(maps: Tensor, dim: int, start: int, step: int, count: int) -> Tensor:
    index = [slice(None)] * maps.dim()
    index[dim] = slice(start, start + step * (count - 1) + 1, step)
    return maps[tuple(index)]


def over_channels(maps: Tensor, channels: int) -> Tensor:
    """A map of every group repeated for its channels; one group broadcasts."""
    return maps if maps.shape[1] in (1, channels) else maps.repeat_interleave(channels // maps.shape[1], dim=1)


def inverse_of_groups(inverse: Tensor, groups: int) -> Tensor:
    """One map a group of what `over_channels` repeated."""
    return inverse if inverse.shape[1] == groups else inverse[:, :: inverse.shape[1] // groups]
