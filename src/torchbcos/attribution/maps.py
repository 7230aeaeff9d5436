"""From one number a channel to one number a pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.functional.replace import encoded_images

__all__ = ["REDUCTIONS", "colour_gradient", "enlarged", "reduced", "shared_out"]

REDUCTIONS = ("max", "l2", "sum")


def colour_gradient(gradients: Tensor, x: Tensor) -> Tensor:
    """Gradients with respect to colours: (N, K, C, *S), of encoded pictures (N, K, C / 2, *S).

    A colour c moves two channels, c and 1 - c, so by the chain rule its gradient is `g_c - g_{c + C/2}`. The plain sum over six
    channels would be the derivative along "every channel brighter at once", which no picture can do.

    >>> x = torch.tensor([[[0.25], [0.75]]])
    >>> colour_gradient(torch.tensor([[[[3.0], [1.0]]]]), x).flatten()
    tensor([2.])
    """
    encoded = encoded_images(x)
    if not bool(encoded.any()):
        return gradients
    if not bool(encoded.all()):
        raise InputError("Some of these images are encoded as [c, 1 - c] and some are not: attribute them in two calls.")
    half = x.shape[1] // 2
    return gradients[:, :, :half] - gradients[:, :, half:]


def reduced(gradients: Tensor, x: Tensor, how: str) -> Tensor:
    """(N, K, *S) of gradients (N, K, C, *S): "max" of |colour gradient| (Simonyan et al. 2014), its "l2" norm, or its "sum".

    Raises:
        InputError: `how` is none of these.
    """
    found = colour_gradient(gradients, x)
    if how == "max":
        return found.abs().amax(2)
    if how == "l2":
        norm: Tensor = torch.linalg.vector_norm(found, dim=2)
        return norm
    if how == "sum":
        return found.sum(2)
    raise InputError(f"reduce must be one of {', '.join(REDUCTIONS)}, not {how!r}.")


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (N, K, *s) at the size of the picture (N, K, *S): linear between the centres of pixels."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return maps if tuple(maps.shape[2:]) == size else F.interpolate(maps, size=size, mode=mode, align_corners=False)


def shared_out(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """The same, but every number is shared out among its pixels: sums stay, also where sizes are no multiples.

    >>> shared_out(torch.tensor([[[3.0, 5.0]]]), (5,)).sum()
    tensor(8.)
    """
    for axis, (cells, pixels) in enumerate(zip(maps.shape[2:], size, strict=True), start=2):
        if cells != pixels:
            weights = enlarged(torch.eye(cells, dtype=maps.dtype, device=maps.device)[None], (pixels,))[0]
            shares = weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
            maps = torch.tensordot(maps, shares, ([axis], [0])).movedim(-1, axis)
    return maps
