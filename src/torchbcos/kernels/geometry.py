"""How a convolution walks over its input, and the two things that every kernel asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import convolution_backward

__all__ = ["CONVOLUTIONS", "Geometry"]

CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}  # by number of space axes


@dataclass(frozen=True)
class Geometry:
    """Stride, zero padding, dilation and groups of a convolution, one number a space axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def pointwise(self) -> bool:
        """True where a patch is one position."""
        return all(k == 1 for k in self.kernel) and not any(self.padding)

    def axes(self) -> list[tuple[int, int, int, int]]:
        """Kernel, stride, padding and dilation of every space axis."""
        return list(zip(self.kernel, self.stride, self.padding, self.dilation, strict=True))

    def along(self, axis: int, value: int, rest: int = 1) -> list[int]:
        """`value` at one axis and `rest` at the others."""
        return [value if i == axis else rest for i in range(len(self.kernel))]

    def alone(self, axis: int) -> tuple[list[int], list[int], list[int]]:
        """Stride, padding and dilation of a step along one axis only."""
        return (
            self.along(axis, self.stride[axis]), self.along(axis, self.padding[axis], 0),
            self.along(axis, self.dilation[axis]),
        )  # fmt: skip

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """`x` (N, C, *S) convolved with `weight` (O, C/G, *kernel)."""
        stride, padding, dilation = list(self.stride), list(self.padding), list(self.dilation)
        return CONVOLUTIONS[len(self.kernel)](x, weight, None, stride, padding, dilation, self.groups)

    def gradients(self, g: Tensor, x: Tensor, weight: Tensor, mask: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Gradients of the convolution with respect to its input and its weight."""
        gx, gw = convolution_backward(
            g, x, weight, list(self.stride), list(self.padding), list(self.dilation), self.groups, list(mask)
        )  # fmt: skip
        return gx, gw
