"""Where a picture comes to lie: resized, cut or between bars, with torchvision's rounding.

Shapes: C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from torchbcos._core.errors import InputError
from torchbcos.pictures.read import MAX_PIXELS
from torchbcos.pictures.seen import Seen

__all__ = ["INTERPOLATIONS", "Frame"]

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Resizes and crops: see `torchbcos.pictures.Preprocess`, whose settings these are.

    Args:
        resize: length of the shorter side; None: as it is.
        crop: side of the square; None: the whole picture.
        fit: "crop", "letterbox" or "squash".
        interpolation: "bilinear" or "bicubic".
        bars: the colour of a letterbox's bars, a number a channel or one for all.

    >>> Frame(resize=8, crop=4, fit="crop", interpolation="bilinear").place(torch.rand(2, 16, 12)).shape
    torch.Size([2, 4, 4])
    """

    resize: int | None
    crop: int | None
    fit: str
    interpolation: str
    bars: Sequence[float] = (0.0,)

    def place(self, image: Image.Image | Tensor) -> Tensor:
        """(C, H, W) float32 in [0, 1] of an RGB or grey image, or of numbers (C, H, W) in [0, 1]."""
        return self._place_tensor(image) if isinstance(image, Tensor) else self._place_picture(image)

    def seen(self, width: int, height: int) -> Seen:
        """What part of a picture of that size is looked at."""
        box, share = [0, 0, width, height], 1.0
        if self.crop is not None and self.fit != "letterbox":
            for axis, (side, now) in enumerate(zip((width, height), self.resized(width, height), strict=True)):
                start = _offset(now, self.crop)
                first, last = max(start, 0), min(start + self.crop, now)
                share *= (last - first) / now
                box[axis], box[axis + 2] = round(first * side / now), round(last * side / now)
        return Seen(fit=self.fit if self.crop is not None else "crop", share=share, box=(box[0], box[1], box[2], box[3]))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing: the shorter side exactly, the longer one rounded down; the longer one under bars;
        both where the picture is squashed.

        Raises:
            InputError: the picture is so long that its longer side would become enormous.
        """
        if self.fit == "letterbox" and self.crop is not None:
            scale = self.crop / max(width, height)
            return max(1, round(width * scale)), max(1, round(height * scale))
        if self.resize is None:
            return width, height
        if self.fit == "squash":
            return self.resize, self.resize
        longer = int(self.resize * max(width, height) / min(width, height))
        if self.resize * longer > MAX_PIXELS:
            raise InputError(
                f"A picture of {width} x {height} pixels would become {self.resize} x {longer} in the resizing of its "
                "shorter side: crop it to a less extreme shape first."
            )
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def _place_picture(self, image: Image.Image) -> Tensor:
        """Resize and crop in bytes, as Pillow rounds them."""
        width, height = self.resized(image.width, image.height)
        if (width, height) != image.size:
            image = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        if self.crop is not None and self.fit != "letterbox":
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = image.crop((left, top, left + self.crop, top + self.crop))  # outside it is black
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
        pixels = pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)
        return self._with_bars(pixels.contiguous().float() / 255)

    def _place_tensor(self, image: Tensor) -> Tensor:
        width, height = self.resized(image.shape[2], image.shape[1])
        if (height, width) != image.shape[1:]:
            resized = F.interpolate(image[None], (height, width), mode=self.interpolation, antialias=True, align_corners=False)
            image = resized[0].clamp(0, 1)  # bicubic weights overshoot, and 1 - x must not be negative
        if self.crop is not None and self.fit != "letterbox":
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = F.pad(image, (-left, left + self.crop - width, -top, top + self.crop - height))
        return self._with_bars(image)

    def _with_bars(self, pixels: Tensor) -> Tensor:
        """A square of `crop` with the picture in its middle; as it is where the picture is cropped."""
        if self.crop is None or self.fit != "letterbox":
            return pixels
        height, width = pixels.shape[1:]
        colour = pixels.new_tensor(self.bars)[:, None, None].expand(len(pixels), self.crop, self.crop)
        square = colour.clone()
        left, top = (self.crop - width) // 2, (self.crop - height) // 2
        square[:, top : top + height, left : left + width] = pixels
        return square


def _offset(length: int, crop: int) -> int:
    """Where a centred crop begins; negative where a border is added. Halves round as torchvision rounds them."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)
