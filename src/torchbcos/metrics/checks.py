"""What maps and masks must look like, said once."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError

__all__ = ["check_maps", "check_masks"]


def check_maps(maps: object, name: str = "maps", *, images: int | None = None) -> Tensor:
    """Maps (N, *S) in float32 or float64, finite.

    Args:
        maps: (N, *S) of any dtype; half precision becomes float32, in which squares and sums do not overflow.
        name: for messages.
        images: how many there must be.

    Raises:
        ArgumentTypeError: they are no tensor.
        InputError: there are none, they have no space axis, or a number in them is not finite (the message names the image).
    """
    if not isinstance(maps, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor (N, H, W), not {type(maps).__name__}: torch.as_tensor({name}).")
    if maps.dim() < 2 or maps.numel() == 0:
        raise InputError(f"{name} must be (N, H, W), one map an image, not {tuple(maps.shape)}.")
    if images is not None and len(maps) != images:
        raise InputError(f"There are {len(maps)} {name} for {images} images.")
    if maps.is_complex():
        raise InputError(f"{name} must be real numbers, not {maps.dtype}.")
    maps = maps.detach()
    maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
    good = maps.isfinite().flatten(1).all(1)
    if not bool(good.all()):
        first = int((~good).nonzero()[0])
        raise InputError(f"The map of image {first} has numbers that are not finite (NaN or infinity): no metric is defined.")
    return maps


def check_masks(masks: object, maps: Tensor, name: str = "masks") -> Tensor:
    """Masks (N, *S) bool of the shape of the maps, on their device.

    Raises:
        ArgumentTypeError: they are no tensor.
        InputError: their shape is another, or they hold other numbers than 0 and 1.
    """
    if not isinstance(masks, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor (N, H, W) of bool, not {type(masks).__name__}.")
    if masks.shape != maps.shape:
        raise InputError(
            f"{name} of shape {tuple(masks.shape)} do not fit maps of shape {tuple(maps.shape)}: resize one of them first."
        )
    if masks.dtype != torch.bool:
        if bool(((masks != 0) & (masks != 1)).any()):
            raise InputError(f"{name} must hold True and False (or 1 and 0) only: compare with a threshold first.")
        masks = masks == 1
    return masks.to(maps.device)
