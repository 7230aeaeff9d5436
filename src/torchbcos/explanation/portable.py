"""Layers written in operations that other runtimes know, while a graph is recorded.

Backward operations have no form in ONNX, and what writes in place, or sets strides, has none either. Two tables say what
is recorded instead: `OPERATIONS` for those of a backward pass, `Written` for functions that are called in the forward pass,
whose backward pass then follows. Pooling and resampling are linear along each axis: a product with a small matrix, which is
what the function itself makes of the unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from torchbcos._core import torch_private
from torchbcos._core.atoms import atoms, unwatched

__all__ = ["OPERATIONS", "Written"]

# -- the backward pass ---------------------------------------------------------------------------------------------------


def _transposed_convolution(
    g: Tensor, x: Tensor, weight: Tensor, _sizes: object, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, output_padding: list[int], groups: int, mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """The gradient of a convolution with respect to its input, as a transposed convolution."""
    if transposed or mask[1] or mask[2]:
        return NotImplemented  # type: ignore[no-any-return]
    return _spread_back(g, x, weight, stride, padding, dilation, groups), None, None


def _transposed_pooling(
    g: Tensor, x: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil_mode: bool,
    count_include_pad: bool, divisor: int | None,
) -> Tensor:  # fmt: skip
    """The gradient of average pooling as a transposed convolution with equal weights."""
    if ceil_mode or (any(padding) and not count_include_pad):
        return NotImplemented  # type: ignore[no-any-return]
    channels = x.shape[1]
    weight = g.new_full((channels, 1, *kernel), 1 / (divisor or math.prod(kernel)))
    return _spread_back(g, x, weight, stride or kernel, padding, [1] * len(kernel), channels)


def _spread_back(
    g: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:  # fmt: skip
    """A transposed convolution that returns to the shape of `x`."""
    steps = zip(g.shape[2:], x.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True)
    left = [size - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, size, s, p, d, k in steps]
    transposed: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(stride)]
    out: Tensor = transposed(g, weight, None, stride, padding, left, groups, dilation)
    return out


_TRANSPOSED = (
    (torch_private.CONVOLUTION_BACKWARD, _transposed_convolution),
    (torch_private.AVERAGE_POOL_BACKWARD, _transposed_pooling),
)
OPERATIONS: dict[Any, Callable[..., Any]] = {operation: instead for operation, instead in _TRANSPOSED if operation is not None}


# -- the forward pass ----------------------------------------------------------------------------------------------------


class Written(TorchFunctionMode):
    """While this is active, functions of `torch.nn.functional` are recorded in a form that can be exported.

    Args:
        portable: for ONNX. False: only those that `torch.export` itself cannot take with any number of images.
    """

    def __init__(self, *, portable: bool) -> None:
        super().__init__()
        self.instead = _FUNCTIONS if portable else {F.interpolate: _interpolate}

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        """The other form, or `func` itself where it has none for these arguments."""
        kwargs = kwargs or {}
        if func in atoms():  # a layer's own function, whose insides call others
            with self, unwatched():
                return func(*args, **kwargs)
        instead = self.instead.get(func)
        found = NotImplemented if instead is None else instead(*args, **kwargs)
        return func(*args, **kwargs) if found is NotImplemented else found


def _along(x: Tensor, axes: int, one: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function that is linear along each of the last axes.

    Args:
        x: (..., *S).
        axes: how many S are.
        one: it along axis i of S alone, for unit vectors (n, 1, 1, .., n, .., 1).
    """
    for i in range(axes):
        axis = i - axes
        matrix = _matrix(x, axes, i, one)
        x = (x.transpose(axis, -1) @ matrix).transpose(axis, -1)
    return x


def _matrix(x: Tensor, axes: int, i: int, one: Callable[[Tensor, int], Tensor]) -> Tensor:
    """What a function makes of the unit vectors of axis i, (n, its new size)."""
    n = x.shape[i - axes]
    shape = [n, 1, *(n if j == i else 1 for j in range(axes))]

    def compute() -> Tensor:
        return one(torch.eye(n, dtype=torch.float64).reshape(shape), i).reshape(n, -1).to(x.device, x.dtype)

    with ThreadPoolExecutor(1) as elsewhere:  # whoever records looks at one thread: the matrix is a constant of the graph
        return elsewhere.submit(compute).result()


def _each(value: Any, axes: int) -> list[Any]:
    """One number an axis of what may be one for all."""
    listed = list(value) if isinstance(value, Sequence) else [value]
    return listed * axes if len(listed) == 1 else listed


def _only(i: int, values: Sequence[Any], other: Any) -> list[Any]:
    """`other` for all axes but i."""
    return [value if j == i else other for j, value in enumerate(values)]


def _adaptive(axes: int) -> Callable[..., Any]:
    function: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[axes - 1]

    def pool(input: Tensor, output_size: Any) -> Tensor:  # the names that torch gives its arguments
        sizes = [n if size is None else size for n, size in zip(input.shape[-axes:], _each(output_size, axes), strict=True)]
        if all(size == 1 for size in sizes):
            return input.mean(tuple(range(-axes, 0)), keepdim=True)
        return _along(input, axes, lambda units, i: function(units, _only(i, sizes, 1)))

    return pool


def _average(axes: int) -> Callable[..., Any]:
    function: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]

    def pool(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Tensor:  # fmt: skip
        kernel, pads = _each(kernel_size, axes), _each(padding, axes)
        steps = _each(stride, axes) if stride is not None and stride != [] else kernel
        if axes < 3 and not ceil_mode and (count_include_pad or not any(pads)):
            return NotImplemented  # type: ignore[no-any-return]  # a transposed convolution does its backward pass

        def one(units: Tensor, i: int) -> Tensor:
            out: Tensor = function(
                units, _only(i, kernel, 1), _only(i, steps, 1), _only(i, pads, 0), ceil_mode, count_include_pad,
                *([1] if divisor_override else []),
            )  # fmt: skip
            return out

        out = _along(input, axes, one)
        return out / divisor_override if divisor_override else out

    return pool


def _interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    axes = input.dim() - 2
    sizes, scales = (None if given is None else _each(given, axes) for given in (size, scale_factor))

    def one(units: Tensor, i: int) -> Tensor:
        return F.interpolate(
            units, None if sizes is None else _only(i, sizes, 1), None if scales is None else _only(i, scales, 1.0), mode,
            align_corners, recompute_scale_factor, antialias,
        )  # fmt: skip

    return _along(input, axes, one)


def _pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if mode not in ("circular", "replicate") or min(pad) < 0:
        return NotImplemented  # type: ignore[no-any-return]
    out = input
    for i in range(len(pad) // 2):  # the last axis comes first
        axis, left, right = -1 - i, pad[2 * i], pad[2 * i + 1]
        n = out.shape[axis]
        if mode == "circular" and max(left, right) > n:
            return NotImplemented  # type: ignore[no-any-return]  # torch refuses it
        first, last = (n - left, 0) if mode == "circular" else (0, n - 1)
        parts = (_end(out, axis, first, left, mode), out, _end(out, axis, last, right, mode))
        out = torch.cat([part for part in parts if part.shape[axis]], axis)
    return out


def _end(x: Tensor, axis: int, start: int, count: int, mode: str) -> Tensor:
    """`count` rows along an axis: those from `start` on, or that row again and again."""
    if mode == "circular":
        return x.narrow(axis, start, count)
    shape = list(x.shape)
    shape[axis] = count
    return x.narrow(axis, start, 1).expand(shape)


# what is called, and what is done instead; NotImplemented: it itself
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    F.adaptive_avg_pool1d: _adaptive(1), F.adaptive_avg_pool2d: _adaptive(2), F.adaptive_avg_pool3d: _adaptive(3),
    F.avg_pool1d: _average(1), F.avg_pool2d: _average(2), F.avg_pool3d: _average(3), F.interpolate: _interpolate, F.pad: _pad,
}  # fmt: skip
