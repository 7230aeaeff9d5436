"""What oneDNN does faster on a CPU than the calls that torch makes by itself.

Measured in docs/decisions/005: on processors that are not Intel's, oneDNN's convolution multiplies matrices twice as fast
as `F.linear`; and on small maps of many channels a convolution spends most of its time on bringing its weight into
oneDNN's order, which needs to be done once for a weight that does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import packing
from torchbcos.kernels.geometry import Geometry
from torchbcos.kernels.seal import Seal, sealable

__all__ = ["Packed", "available", "product"]

# Setting up a convolution takes some 20 µs more than `F.linear` does; from about so many rows on the product hides that.
_ROWS = 128
# Positions of a map, over all images. On larger maps the convolution itself takes so long that reordering hardly counts.
_POSITIONS = 256
# Numbers in a weight. A call of oneDNN's private operation takes some 40 µs more than `F.conv2d` does; smaller weights are
# reordered faster than that, while 2048 x 512 on 7 x 7 took 1.0 ms reordered and 0.25 ms packed.
_WEIGHTS = 2**15

_BUILT = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def available(x: Tensor) -> bool:
    """True where oneDNN computes with `x`: float32 on a CPU, in a torch that has oneDNN and has not switched it off."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled) and _BUILT


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x weightᵀ` over the last axis, many rows as a 1×1 convolution.

    Args:
        x: (..., D).
        weight: (O, D).

    Returns:
        (..., O).

    >>> x, w = torch.randn(3, 50, 8), torch.randn(4, 8)
    >>> torch.allclose(product(x, w), x @ w.t(), atol=1e-5)
    True
    """
    rows, (outputs, width) = math.prod(x.shape[:-1]), weight.shape
    if rows < _ROWS or min(outputs, width) < 16 or not available(x):
        return F.linear(x, weight)
    # a picture of one column in channels_last, and filters of one pixel: views, nothing is copied
    picture = x.reshape(1, rows, 1, width).permute(0, 3, 1, 2)
    out = F.conv2d(picture, weight.contiguous().view(outputs, width, 1, 1))
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], outputs)


class Packed:
    """A convolution's weight in oneDNN's own order, for both directions, made when first needed.

    Each use asks the seal of what is kept whether the weight is still the one that it was made of. The order depends on
    the shape of the input. One is kept for each direction; another shape replaces it when two calls in a row have that shape.
    """

    def __init__(self) -> None:
        self.ahead = _PackedOnce(lambda weight: weight)
        self.back = _PackedOnce(lambda weight: weight.flip(2, 3).transpose(0, 1))

    def __reduce__(self) -> tuple[type[Packed], tuple[()]]:
        """Copies and pickles are empty: a layer's copy has weights of its own."""
        return Packed, ()

    def forget(self) -> None:
        """Keep nothing."""
        self.ahead.kept = self.back.kept = None

    def convolve(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor | None:
        """`x` convolved with `weight`, or None where packing does not pay."""
        if not self.pays(x, weight, geometry):
            return None
        return self.ahead.run(x, weight, geometry.padding, geometry.stride, geometry.dilation)

    def gradient(self, g: Tensor, weight: Tensor, geometry: Geometry) -> Tensor | None:
        """The gradient with respect to the input, of a convolution of stride 1, or None."""
        padding = [d * (k - 1) - p for k, p, d in zip(geometry.kernel, geometry.padding, geometry.dilation, strict=True)]
        if any(s != 1 for s in geometry.stride) or min(padding) < 0 or not self.pays(g, weight, geometry):
            return None
        return self.back.run(g, weight, padding, geometry.stride, geometry.dilation)

    @staticmethod
    def pays(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
        """True on small maps of many channels."""
        if x.dim() != 4 or geometry.groups != 1 or packing.works is False:
            return False
        positions = len(x) * math.prod(n // s for n, s in zip(x.shape[2:], geometry.stride, strict=True))
        fits = positions <= _POSITIONS and weight.numel() >= _WEIGHTS and available(x)
        return fits and x.is_contiguous(memory_format=torch.channels_last)


class _Kept(NamedTuple):
    """A weight in oneDNN's order for inputs of this shape, and the seal of the weight that it was made of."""

    shape: torch.Size
    seal: Seal
    packed: Tensor


class _PackedOnce:
    """A weight packed for one shape of input; `turned` makes of the weight what this direction convolves with."""

    def __init__(self, turned: Callable[[Tensor], Tensor]) -> None:
        self.turned = turned
        # one assignment and one reading each: threads that meet here repeat work, and no more
        self.kept: _Kept | None = None
        self.last_other: torch.Size | None = None

    def run(
        self, x: Tensor, weight: Tensor, padding: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
    ) -> Tensor | None:
        """The convolution, without autograd.

        None where `x` has another shape than the packed weight is for: the caller convolves as usual. A second call with
        that shape packs anew, so that shapes that take turns do not reorder the weight at every call.
        """
        kept, (padding, stride, dilation) = self.kept, (list(padding), list(stride), list(dilation))
        with torch.inference_mode(False), torch.no_grad():
            if kept is not None and not kept.seal.holds(weight):
                kept = self.kept = None
            if kept is None or kept.shape != x.shape:
                if kept is not None and self.last_other != x.shape:
                    self.last_other = x.shape
                    return None
                if not sealable(weight):
                    return None
                seal = Seal(weight)  # first: a weight that somebody writes to meanwhile does not fit it later
                packed = packing.pack(self.turned(weight), padding, stride, dilation, list(x.shape))
                if packed is None:
                    return None
                kept = self.kept = _Kept(x.shape, seal, packed)
        with torch.no_grad():
            out = packing.convolve(x, kept.packed, lambda: self.turned(weight), padding, stride, dilation)
        if out is None:  # this torch cannot: nothing to keep
            self.kept = None
        return out
