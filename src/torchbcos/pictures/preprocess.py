"""Preprocessing: a picture becomes the tensor that a network sees, and back.

Shapes: N images, C channels, H W (or *S) space. `Preprocess` alone knows how pixels are encoded, and the way back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
from torchbcos.pictures.items import ImageLike, as_image, named_items
from torchbcos.pictures.read import MAX_PIXELS
from torchbcos.pictures.samples import Range
from torchbcos.pictures.seen import Seen

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess"]

_Encoding = Literal["add_inverse", "normalize", "none"]
_Interpolation = Literal["bilinear", "bicubic"]
_Fit = Literal["crop", "letterbox"]

_LONGEST_SIDE = 8192
# of the colours of ImageNet's training pictures, which plain networks have been trained with since torchvision's first
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FITS = ("crop", "letterbox")
_ENCODINGS = ("add_inverse", "normalize", "none")
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop and encode a picture: a value that a card can hold, and a function.

    The steps, with torchvision's rounding: the shorter side becomes `resize` pixels (antialiased), the centre of
    `crop` x `crop` is cut out (a smaller picture gets a black border first), bytes are divided by 255, and the result
    is encoded as [x, 1 - x] (Böhle et al. 2024, arXiv 2306.10898, section 3.2), as (x - mean) / std, or not at all.

    Args:
        resize: length of the shorter side in pixels; None: as it is.
        crop: side of the square cut from the centre in pixels; None: the whole picture.
        encoding: "add_inverse" (twice the channels: 6 for RGB), "normalize" (of three channels only) or "none" (pixels as they
            are: for plain networks on arrays that are not RGB).
        mean: three numbers, for "normalize" only.
        std: three numbers above 0, for "normalize" only.
        interpolation: "bilinear" or "bicubic".
        fit: "crop", or "letterbox": the longer side becomes `crop` pixels, and bars fill the square, so that the network sees the
            whole picture. Bars have the colour whose encoding has the least norm, for the bound of a B-cos layer grows with it:
            mid-grey under "add_inverse", `mean` under "normalize" (encoded as zero), zero under "none". Without `crop` both are
            the whole picture as it is.

    Raises:
        InputError: a value is out of range, or mean and std do not fit the encoding.
        ArgumentTypeError: an argument has the wrong type.

    >>> Preprocess(resize=256, crop=224)(Image.new("RGB", (300, 200))).shape
    torch.Size([6, 224, 224])
    """

    resize: int | None = None
    crop: int | None = None
    encoding: _Encoding = "add_inverse"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: _Interpolation = "bilinear"
    fit: _Fit = "crop"

    def __post_init__(self) -> None:
        _check_side("resize", self.resize)
        _check_side("crop", self.crop)
        _check_word("encoding", self.encoding, _ENCODINGS)
        _check_word("interpolation", self.interpolation, tuple(_INTERPOLATIONS))
        _check_word("fit", self.fit, _FITS)
        object.__setattr__(self, "mean", _three_numbers("mean", self.mean))
        object.__setattr__(self, "std", _three_numbers("std", self.std))
        given = self.mean is not None, self.std is not None
        if self.encoding == "normalize" and not all(given):
            raise InputError("encoding='normalize' needs mean and std, three numbers each.")
        if self.encoding != "normalize" and any(given):
            raise InputError(f"mean and std belong to encoding='normalize'; encoding='{self.encoding}' uses neither.")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"std must be above 0, got {self.std}.")

    @property
    def channels(self) -> int:
        """Channels of an encoded RGB picture: 6 or 3."""
        return self.channels_of(3)

    def channels_of(self, raw_channels: int) -> int:
        """How many channels `raw_channels` become by encoding.

        Raises:
            InputError: "normalize", and not three channels.

        >>> Preprocess().channels_of(2), Preprocess(encoding="none").channels_of(2)
        (4, 2)
        """
        if self.encoding == "normalize" and raw_channels != 3:
            raise InputError(
                f"encoding='normalize' has a mean and std for three channels, and here are {raw_channels}: encoding='none' takes "
                "any number of channels as they are, encoding='add_inverse' doubles them."
            )
        return 2 * raw_channels if self.encoding == "add_inverse" else raw_channels

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
        return self.encode(self.place(as_image(image)))

    def batch(self, images: object, *, value_range: Range | None = None) -> Tensor:
        """Encode pictures into one batch; each is read, placed and encoded before the next is read.

        Args:
            images: what `torchbcos.pictures.named_items` takes: one picture, a sequence or an iterator.
            value_range: the numbers of black and white; see `torchbcos.pictures.read_image`.

        Returns:
            (N, C, H, W) float32.

        Raises:
            InputError: the encoded pictures differ in size, which `crop` would prevent.

        >>> Preprocess(resize=8, crop=8).batch([Image.new("L", (9, 12)), torch.rand(3, 20, 10)]).shape
        torch.Size([2, 6, 8, 8])
        """
        return self.stack(list(named_items(images, value_range=value_range)))

    def stack(self, items: Sequence[tuple[str, ImageLike]]) -> Tensor:
        """`batch` of pictures that have names for messages, as `torchbcos.pictures.named_items` gives them.

        Raises:
            InputError: the encoded pictures differ in size, which `crop` would prevent.
        """
        return self.look(items)[0]

    def look(self, items: Sequence[tuple[str, ImageLike]]) -> tuple[Tensor, tuple[Seen, ...]]:
        """`stack`, and what part of each picture is seen.

        Raises:
            InputError: the encoded pictures differ in size, which `crop` would prevent.

        >>> Preprocess(resize=8, crop=8).look([("a.png", Image.new("RGB", (24, 8)))])[1][0].note
        'centre crop, 33 % of the picture'
        """
        looked = [self._look(as_image(item, name)) for name, item in items]
        encoded = [tensor for tensor, _ in looked]
        first = encoded[0]
        for (name, _), tensor in zip(items, encoded, strict=True):
            if tensor.shape != first.shape:
                (h, w), (h0, w0) = tensor.shape[1:], first.shape[1:]
                raise InputError(
                    f"Pictures of one batch need one size: {items[0][0]} is {w0} x {h0} pixels, {name} {w} x {h}. "
                    "Set crop, or give them one at a time."
                )
            if tensor.device != first.device:
                raise InputError(
                    f"Pictures of one batch need one device: {items[0][0]} is on {first.device}, {name} on {tensor.device}."
                )
        return torch.stack(encoded), tuple(seen for _, seen in looked)

    def _look(self, image: Image.Image | Tensor) -> tuple[Tensor, Seen]:
        width, height = image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])
        return self.encode(self.place(image)), self.seen(width, height)

    def seen(self, width: int, height: int) -> Seen:
        """What part of a picture of that size is looked at.

        >>> Preprocess(resize=256, crop=224).seen(768, 256)
        Seen(fit='crop', share=0.25520833333333337, box=(272, 16, 496, 240))
        >>> Preprocess(resize=256, crop=224, fit="letterbox").seen(768, 256).share
        1.0
        """
        box, share = [0, 0, width, height], 1.0
        if self.crop is not None and self.fit == "crop":
            for axis, (side, now) in enumerate(zip((width, height), self._resized(width, height), strict=True)):
                start = _offset(now, self.crop)
                first, last = max(start, 0), min(start + self.crop, now)
                share *= (last - first) / now
                box[axis], box[axis + 2] = round(first * side / now), round(last * side / now)
        return Seen(fit=self.fit if self.crop is not None else "crop", share=share, box=(box[0], box[1], box[2], box[3]))

    def encode(self, pixels: Tensor, dim: int = 0) -> Tensor:
        """Pixels as a network takes them, without resizing.

        Args:
            pixels: float, in [0, 1]: (C, *S) with `dim=0`, (N, C, *S) with `dim=1`; any number of channels and space axes.
            dim: the axis of channels.

        Returns:
            The same shape but for the channels, of which there are `channels_of(C)`; differentiable.

        Raises:
            InputError: "normalize", and not three channels.

        >>> Preprocess().encode(torch.rand(4, 1, 8), dim=1).shape
        torch.Size([4, 2, 8])
        """
        self.channels_of(pixels.shape[dim])
        if self.encoding == "add_inverse":
            return add_inverse(pixels, dim=dim)
        if self.mean is None or self.std is None:
            return pixels
        mean, std = self._moments(pixels, dim)
        return (pixels - mean) / std

    def decode(self, x: Tensor) -> Tensor:
        """Turn an encoded batch back into pixels: the inverse of `encode(pixels, dim=1)`, cut to [0, 1].

        Args:
            x: (N, C, *S) encoded, at least one space axis.

        Returns:
            (N, C, *S) in [0, 1], with the channels from before the encoding: 3 for RGB.

        Raises:
            ArgumentTypeError: `x` is no tensor.
            InputError: `x` has another shape or dtype.

        >>> preprocess = Preprocess()
        >>> preprocess.decode(preprocess.batch(torch.full((3, 1, 1), 0.25))).flatten()
        tensor([0.2500, 0.2500, 0.2500])
        """
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"decode needs a torch.Tensor, got {type(x).__name__}.")
        fits = x.dim() >= 3 and {"add_inverse": x.shape[1] % 2 == 0, "normalize": x.shape[1] == 3}.get(self.encoding, True)
        if not fits or not x.is_floating_point():
            more = " or of another even number of channels and other space" if self.encoding == "add_inverse" else ""
            raise InputError(
                f"decode needs a float batch (N, {self.channels}, H, W) encoded by '{self.encoding}'{more}, "
                f"got {tuple(x.shape)} of {x.dtype}."
            )
        if self.encoding == "add_inverse":
            return x[:, : x.shape[1] // 2].clamp(0, 1)
        if self.mean is not None and self.std is not None:
            mean, std = self._moments(x, 1)
            x = x * std + mean
        return x.clamp(0, 1)

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON can hold them; `from_dict` takes them back.

        >>> Preprocess.from_dict(Preprocess(crop=32).to_dict()) == Preprocess(crop=32)
        True
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.fit == "crop":  # as ever: earlier releases read such cards, too
            del values["fit"]
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
        """Encode numbers (C, *S) in [0, 1] of any channels; with two space axes they are resized and cropped first.

        Raises:
            InputError: "normalize", and not three channels.

        >>> Preprocess(resize=4, crop=4).array(torch.rand(2, 8, 6)).shape
        torch.Size([4, 4, 4])
        """
        return self.encode(self.place(x) if x.dim() == 3 else x)

    def place(self, image: Image.Image | Tensor) -> Tensor:
        """Resize and crop an upright RGB image, or numbers (C, H, W) in [0, 1]; nothing is encoded.

        Returns:
            (C, H, W) float32 in [0, 1]: what `encode` takes.

        >>> Preprocess(crop=2).place(Image.new("RGB", (4, 3), "white")).mean()
        tensor(1.)
        """
        return self._place_tensor(image) if isinstance(image, Tensor) else self._place_picture(image)

    def _moments(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Mean and std, to be broadcast over `x` with its channels at `dim`."""
        shape = [3 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
        return x.new_tensor(self.mean).reshape(shape), x.new_tensor(self.std).reshape(shape)

    def _place_picture(self, image: Image.Image) -> Tensor:
        """Resize and crop in bytes, as Pillow rounds them; (3, H, W) in [0, 1]."""
        width, height = self._resized(image.width, image.height)
        if (width, height) != image.size:
            image = image.resize((width, height), _INTERPOLATIONS[self.interpolation])
        if self.crop is not None and self.fit == "crop":
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = image.crop((left, top, left + self.crop, top + self.crop))  # outside it is black
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous().float() / 255
        return self._with_bars(pixels)

    def _place_tensor(self, image: Tensor) -> Tensor:
        width, height = self._resized(image.shape[2], image.shape[1])
        if (height, width) != image.shape[1:]:
            resized = F.interpolate(image[None], (height, width), mode=self.interpolation, antialias=True, align_corners=False)
            image = resized[0].clamp(0, 1)  # bicubic weights overshoot, and 1 - x must not be negative
        if self.crop is not None and self.fit == "crop":
            left, top = _offset(width, self.crop), _offset(height, self.crop)
            image = F.pad(image, (-left, left + self.crop - width, -top, top + self.crop - height))
        return self._with_bars(image)

    def _with_bars(self, pixels: Tensor) -> Tensor:
        """A square of `crop` with the picture in its middle; as it is where the picture is cropped."""
        if self.crop is None or self.fit == "crop":
            return pixels
        height, width = pixels.shape[1:]
        colour = self.mean or [0.5 if self.encoding == "add_inverse" else 0.0] * len(pixels)
        square = pixels.new_tensor(colour)[:, None, None].expand(-1, self.crop, self.crop).clone()
        left, top = (self.crop - width) // 2, (self.crop - height) // 2
        square[:, top : top + height, left : left + width] = pixels
        return square

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing: the shorter side exactly, the longer one rounded down; the longer one under bars."""
        if self.fit == "letterbox" and self.crop is not None:
            scale = self.crop / max(width, height)
            return max(1, round(width * scale)), max(1, round(height * scale))
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
    if not 1 <= value <= _LONGEST_SIDE:
        raise InputError(f"{name} must lie between 1 and {_LONGEST_SIDE} pixels, got {value}.")


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
