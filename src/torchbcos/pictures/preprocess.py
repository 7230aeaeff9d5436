"""Preprocessing: a picture becomes the tensor that a network sees, and back.

Shapes: N images, C channels (6 with the inverse, else 3), H W space.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos.functional import add_inverse
from torchbcos.pictures.read import MAX_PIXELS, as_image, as_items

Encoding = Literal["add_inverse", "normalize"]
Interpolation = Literal["bilinear", "bicubic"]

LONGEST_SIDE = 8192
_ENCODINGS = ("add_inverse", "normalize")
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop and encode a picture: a value that a card can hold, and a function.

    The steps, with torchvision's rounding: the shorter side becomes `resize` pixels (antialiased), the centre of
    `crop` x `crop` is cut out (a smaller picture gets a black border first), bytes are divided by 255, and the result
    is encoded as [x, 1 - x] (Böhle et al. 2024, arXiv 2306.10898, section 3.2) or as (x - mean) / std.

    Args:
        resize: length of the shorter side in pixels; None: as it is.
        crop: side of the square cut from the centre in pixels; None: the whole picture.
        encoding: "add_inverse" (6 channels) or "normalize" (3 channels).
        mean: three numbers, for "normalize" only.
        std: three numbers above 0, for "normalize" only.
        interpolation: "bilinear" or "bicubic".

    Raises:
        InputError: a value is out of range, or mean and std do not fit the encoding.
        ArgumentTypeError: an argument has the wrong type.

    >>> Preprocess(resize=256, crop=224)(Image.new("RGB", (300, 200))).shape
    torch.Size([6, 224, 224])
    """

    resize: int | None = None
    crop: int | None = None
    encoding: Encoding = "add_inverse"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _check_side("resize", self.resize)
        _check_side("crop", self.crop)
        _check_word("encoding", self.encoding, _ENCODINGS)
        _check_word("interpolation", self.interpolation, tuple(_INTERPOLATIONS))
        object.__setattr__(self, "mean", _three_numbers("mean", self.mean))
        object.__setattr__(self, "std", _three_numbers("std", self.std))
        given = self.mean is not None, self.std is not None
        if self.encoding == "normalize" and not all(given):
            raise InputError("encoding='normalize' needs mean and std, three numbers each.")
        if self.encoding == "add_inverse" and any(given):
            raise InputError("mean and std belong to encoding='normalize'; encoding='add_inverse' uses neither.")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"std must be above 0, got {self.std}.")

    @property
    def channels(self) -> int:
        """Channels of the encoded picture: 6 or 3."""
        return 6 if self.encoding == "add_inverse" else 3

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """Encode one picture.

        Args:
            image: a Pillow image of any mode, or a (3, H, W) float tensor in [0, 1]. (Anything else that
                `as_image` reads, a path say, works too.)

        Returns:
            (C, H, W) float32. For a tensor on its device, and differentiable.

        Raises:
            InputError, ArgumentTypeError, MissingFileError: see `torchbcos.pictures.as_image`.

        >>> Preprocess()(torch.full((3, 1, 1), 0.25)).flatten()
        tensor([0.2500, 0.2500, 0.2500, 0.7500, 0.7500, 0.7500])
        """
        return self._encode(as_image(image))

    def batch(self, images: object) -> Tensor:
        """Encode pictures into one batch.

        Args:
            images: what `torchbcos.pictures.as_items` takes: one picture or a sequence.

        Returns:
            (N, C, H, W) float32.

        Raises:
            InputError: the encoded pictures differ in size, which `crop` would prevent.

        >>> Preprocess(resize=8, crop=8).batch([Image.new("L", (9, 12)), torch.rand(3, 20, 10)]).shape
        torch.Size([2, 6, 8, 8])
        """
        items = as_items(images)
        encoded = [self._encode(as_image(item, f"images[{i}]")) for i, item in enumerate(items)]
        for i, tensor in enumerate(encoded):
            if tensor.shape != encoded[0].shape:
                (h, w), (h0, w0) = tensor.shape[1:], encoded[0].shape[1:]
                raise InputError(
                    f"Pictures of one batch need one size: images[0] is {w0} x {h0} pixels, images[{i}] {w} x {h}. "
                    "Set crop, or give them one at a time."
                )
            if tensor.device != encoded[0].device:
                raise InputError(
                    f"Pictures of one batch need one device: images[0] is on {encoded[0].device}, images[{i}] on {tensor.device}."
                )
        return torch.stack(encoded)

    def decode(self, x: Tensor) -> Tensor:
        """Turn an encoded batch back into colours for display.

        Args:
            x: (N, C, H, W) encoded, C = 6 or 3 as the encoding says.

        Returns:
            (N, 3, H, W) in [0, 1].

        Raises:
            ArgumentTypeError: `x` is no tensor.
            InputError: `x` has another shape or dtype.

        >>> preprocess = Preprocess()
        >>> preprocess.decode(preprocess.batch(torch.full((3, 1, 1), 0.25))).flatten()
        tensor([0.2500, 0.2500, 0.2500])
        """
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"decode needs a torch.Tensor, got {type(x).__name__}.")
        if x.dim() < 3 or x.shape[1] != self.channels or not x.is_floating_point():
            raise InputError(
                f"decode needs a float batch (N, {self.channels}, H, W) encoded by '{self.encoding}', "
                f"got {tuple(x.shape)} of {x.dtype}."
            )
        if self.mean is not None and self.std is not None:
            shape = (3,) + (1,) * (x.dim() - 2)
            x = x * x.new_tensor(self.std).reshape(shape) + x.new_tensor(self.mean).reshape(shape)
        return x[:, :3].clamp(0, 1)

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON can hold them; `from_dict` takes them back.

        >>> Preprocess.from_dict(Preprocess(crop=32).to_dict()) == Preprocess(crop=32)
        True
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """Build from a mapping, as a card holds it; a key that is missing keeps its default.

        Raises:
            ArgumentTypeError: `values` is no mapping.
            InputError: a key is unknown, or a value wrong.

        >>> Preprocess.from_dict({"resize": 256, "crop": 224}).channels
        6
        """
        if not isinstance(values, Mapping):
            raise ArgumentTypeError(f"Preprocess.from_dict needs a mapping, got {type(values).__name__}.")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(f"Preprocessing has no setting {str(key)!r}.{hint(str(key), known)} Known: {', '.join(known)}.")
        return cls(**values)

    def array(self, x: Tensor) -> Tensor:
        """Resize, crop and encode (C, H, W) numbers of any channels; `normalize` leaves other counts than three as they are.

        >>> Preprocess(resize=4, crop=4).array(torch.rand(2, 8, 6)).shape
        torch.Size([4, 4, 4])
        """
        placed = self._place_tensor(x)
        return placed if self.mean is not None and len(placed) != 3 else self._coded(placed)

    def _encode(self, image: Image.Image | Tensor) -> Tensor:
        return self._coded(self._place_tensor(image) if isinstance(image, Tensor) else self._place_picture(image))

    def _coded(self, x: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return add_inverse(x, dim=0)
        return (x - x.new_tensor(self.mean).reshape(3, 1, 1)) / x.new_tensor(self.std).reshape(3, 1, 1)

    def _place_picture(self, image: Image.Image) -> Tensor:
        """Resize and crop in bytes, as Pillow rounds them; (3, H, W) in [0, 1]."""
        width, height = self._resized(image.width, image.height)
        if (width, height) != image.size:
            image = image.resize((width, height), _INTERPOLATIONS[self.interpolation])
        if self.crop is not None:
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = image.crop((left, top, left + self.crop, top + self.crop))  # outside it is black
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
        return pixels.permute(2, 0, 1).contiguous().float() / 255

    def _place_tensor(self, image: Tensor) -> Tensor:
        width, height = self._resized(image.shape[2], image.shape[1])
        if (height, width) != image.shape[1:]:
            resized = F.interpolate(image[None], (height, width), mode=self.interpolation, antialias=True, align_corners=False)
            image = resized[0].clamp(0, 1)  # bicubic weights overshoot, and 1 - x must not be negative
        if self.crop is not None:
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = F.pad(image, (-left, left + self.crop - width, -top, top + self.crop - height))
        return image

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing: the shorter side exactly, the longer one rounded down."""
        if self.resize is None:
            return width, height
        longer = int(self.resize * max(width, height) / min(width, height))
        if self.resize * longer > MAX_PIXELS:
            raise InputError(
                f"A picture of {width} x {height} pixels would become {self.resize} x {longer} in the resizing of its "
                "shorter side: crop it to a less extreme shape first."
            )
        return (self.resize, longer) if width <= height else (longer, self.resize)


def _offset(length: int, crop: int) -> int:
    """Where a centred crop begins; negative where a border is added. Halves round as torchvision rounds them."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)


def _check_side(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be a whole number of pixels or None, got {value!r}.")
    if not 1 <= value <= LONGEST_SIDE:
        raise InputError(f"{name} must lie between 1 and {LONGEST_SIDE} pixels, got {value}.")


def _check_word(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        words = " or ".join(repr(word) for word in known)
        raise InputError(f"{name} must be {words}, got {value!r}.{hint(str(value), known)}")


def _three_numbers(name: str, value: object) -> tuple[float, float, float] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)):
        raise ArgumentTypeError(f"{name} must be three numbers, one a colour, or None; got {type(value).__name__}.")
    numbers = [v for v in value if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 3 or len(value) != 3:
        raise InputError(f"{name} must be three finite numbers, one a colour; got {value!r}.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
