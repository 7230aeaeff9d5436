"""Lengths of patches and vectors that are linear maps of their input once the direction is held: what a norm bias is made of.

Shapes: N images, C channels, *S space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.frozen import hold
from torchbcos.functional.conv import spread
from torchbcos.functional.numbers import check_epsilon
from torchbcos.functional.transform import CONV_EPS
from torchbcos.kernels.geometry import Geometry
from torchbcos.kernels.lengths import overflow_shown
from torchbcos.kernels.patches import patch_sums

__all__ = ["patch_length", "vector_length"]


@atom()
def patch_length(
    x: Tensor, kernel: Sequence[int], *, stride: int | Sequence[int] = 1, padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1, eps: float = CONV_EPS,
) -> Tensor:  # fmt: skip
    """`‖p‖² / sqrt(‖p‖² + eps)` of every patch p over all channels: its length, as a linear map of the input.

    `‖p‖ = (p / ‖p‖)·p`: with the direction held, a length is linear in p. A bias times such a length is therefore no constant of
    an explanation. (Ours: published conversions drop biases.)

    Args:
        x: (N, C, *S).
        kernel: size of a patch along every space axis.
        stride, padding, dilation: as in a convolution; padded places are zeros.
        eps: added to the squared length, inside the root.

    Returns:
        (N, 1, *S').

    >>> patch_length(torch.tensor([[[3.0, 0.0]], [[4.0, 0.0]]]).movedim(0, 1), (1,), eps=0.0)
    tensor([[[5., 0.]]])
    """
    space = x.dim() - 2
    sizes = tuple(kernel), spread(stride, space, "stride"), _widths(padding, space), spread(dilation, space, "dilation")
    geometry = Geometry(*sizes, 1)
    return _length(x, 1, eps, lambda squares: patch_sums(squares, geometry))


@atom()
def vector_length(x: Tensor, dim: int = -1, *, eps: float = CONV_EPS) -> Tensor:
    """`patch_length` of vectors along one axis, which is kept with size 1.

    >>> vector_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), eps=0.0)
    tensor([[5.],
            [0.]])
    """
    return _length(x, dim, eps, lambda squares: squares)


def _length(x: Tensor, dim: int, eps: float, collect: Callable[[Tensor], Tensor]) -> Tensor:
    check_epsilon(eps)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    held = hold(wide)
    squares = collect((wide * held).sum(dim, keepdim=True))
    inside = overflow_shown(hold(squares)) + eps
    tiny = torch.finfo(inside.dtype).tiny
    return (squares / inside.clamp_min(tiny).sqrt()).to(x.dtype)


def _widths(padding: int | Sequence[int], space: int) -> tuple[int, ...]:
    return (padding,) * space if isinstance(padding, int) else tuple(padding)
