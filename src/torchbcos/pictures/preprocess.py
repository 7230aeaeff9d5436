"""Preprocessing: a picture becomes the tensor that a network sees, and back.

Shapes: N images, C channels, H W (or *S) space. `Preprocess` alone knows how pixels are encoded, and the way back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos.functional import add_inverse
from torchbcos.pictures.checks import check_count, check_numbers, check_side, check_word
from torchbcos.pictures.form import Form
from torchbcos.pictures.given import each_input
from torchbcos.pictures.inputs import read_input
from torchbcos.pictures.placing import INTERPOLATIONS, Frame
from torchbcos.pictures.samples import Range, check_range, other_range, warn_once
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.seen import Placed, Seen

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess"]

_Encoding = Literal["add_inverse", "normalize", "none"]
_Interpolation = Literal["bilinear", "bicubic"]
_Fit = Literal["crop", "letterbox", "squash"]

_MOST_CHANNELS = 4096
# of the colours of ImageNet's training pictures, which plain networks have been trained with since torchvision's first
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FITS = ("crop", "letterbox", "squash")
_ENCODINGS = ("add_inverse", "normalize", "none")
_LATER = {"fit": "crop", "raw_channels": 3, "axes": 2, "value_range": None}  # defaults that earlier releases' cards do not name


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop and encode a picture: a value that a card can hold, and a function.

    The steps, with torchvision's rounding: the shorter side becomes `resize` pixels (antialiased), the centre of
    `crop` x `crop` is cut out (a smaller picture gets a black border first), bytes are divided by 255, and the result
    is encoded as [x, 1 - x] (Böhle et al. 2024, arXiv 2306.10898, section 3.2), as (x - mean) / std, or not at all.

    Signals and volumes have nothing to resize or crop: they are taken as they are, and a batch needs one size.

    Args:
        resize: length of the shorter side in pixels; None: as it is.
        crop: side of the square cut from the centre in pixels; None: the whole picture.
        encoding: "add_inverse" (twice the channels: 6 for RGB), "normalize" or "none" (numbers as they are: for plain networks on
            what is not RGB).
        mean: a number a channel, for "normalize" only.
        std: a number above 0 a channel, for "normalize" only.
        interpolation: "bilinear" or "bicubic".
        fit: "crop", or "letterbox": the longer side becomes `crop` pixels, and bars fill the square, so that the network sees the
            whole picture. Bars have the colour whose encoding has the least norm, for the bound of a B-cos layer grows with it:
            mid-grey under "add_inverse", `mean` under "normalize" (encoded as zero), zero under "none". "squash": both sides
            become `resize` pixels, whatever the picture's shape, and the centre is cut. Without `crop` (of "squash": `resize`)
            all are the whole picture as it is.
        raw_channels: of an input before it is encoded: 3 of RGB pictures, 1 of grey ones, as which any picture is then read.
        axes: of space: 1 of signals (C, L), 2 of pictures (C, H, W), 3 of volumes (C, D, H, W).
        value_range: the stored numbers that become 0 and 1, (0, 4095) say, wherever a caller gives none; what lies outside is cut
            to these ends.

    Raises:
        InputError: a value is out of range, or mean and std do not fit the encoding.
        ArgumentTypeError: an argument has the wrong type.

    >>> Preprocess(resize=256, crop=224)(Image.new("RGB", (300, 200))).shape
    torch.Size([6, 224, 224])
    >>> Preprocess(raw_channels=2, axes=1)(torch.rand(2, 100)).shape
    torch.Size([4, 100])
    """

    resize: int | None = None
    crop: int | None = None
    encoding: _Encoding = "add_inverse"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: _Interpolation = "bilinear"
    fit: _Fit = "crop"
    raw_channels: int = 3
    axes: int = 2
    value_range: Range | None = None

    def __post_init__(self) -> None:
        check_side("resize", self.resize)
        check_side("crop", self.crop)
        check_word("encoding", self.encoding, _ENCODINGS)
        check_word("interpolation", self.interpolation, tuple(INTERPOLATIONS))
        check_word("fit", self.fit, _FITS)
        check_count("raw_channels", self.raw_channels, _MOST_CHANNELS)
        check_count("axes", self.axes, 3)
        object.__setattr__(self, "mean", check_numbers("mean", self.mean, self.raw_channels))
        object.__setattr__(self, "std", check_numbers("std", self.std, self.raw_channels))
        object.__setattr__(self, "value_range", check_range(self.value_range))
        given = self.mean is not None, self.std is not None
        if self.encoding == "normalize" and not all(given):
            raise InputError("encoding='normalize' needs mean and std, a number a channel each.")
        if self.encoding != "normalize" and any(given):
            raise InputError(f"mean and std belong to encoding='normalize'; encoding='{self.encoding}' uses neither.")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"std must be above 0, got {self.std}.")
        if self.axes != 2 and (self.resize, self.crop) != (None, None):
            raise InputError(f"resize and crop are for pictures, of two axes; {self.form.kind}s (axes={self.axes}) have neither.")

    @property
    def form(self) -> Form:
        """Channels and axes of what is taken, and the words for them."""
        return Form(self.raw_channels, self.axes)

    @property
    def channels(self) -> int:
        """Channels of an encoded input: 6 or 3 for RGB."""
        return self.channels_of(self.raw_channels)

    def channels_of(self, raw_channels: int) -> int:
        """How many channels `raw_channels` become by encoding.

        Raises:
            InputError: "normalize", and of another number of channels.

        >>> Preprocess().channels_of(2), Preprocess(encoding="none").channels_of(2)
        (4, 2)
        """
        if self.encoding == "normalize" and raw_channels != self.raw_channels:
            many = "three channels" if self.raw_channels == 3 else f"{self.raw_channels} channel{'s' * (self.raw_channels > 1)}"
            raise InputError(
                f"encoding='normalize' has a mean and std for {many}, and here are {raw_channels}: encoding='none' takes "
                "any number of channels as they are, encoding='add_inverse' doubles them."
            )
        return 2 * raw_channels if self.encoding == "add_inverse" else raw_channels

    def read(self, item: object, name: str = "image", *, value_range: Range | None = None) -> Image.Image | Tensor | Scan:
        """One item as this classifier takes it, neither resized nor encoded.

        Args:
            item: a path (of a picture, a `.npy` file, DICOM, NIfTI, or a folder that is one DICOM series), an open binary file,
                a Pillow image, a numpy array, a tensor or a Scan.
            name: what messages call it.
            value_range: the stored numbers that become 0 and 1; None: those of this preprocessing, if it has any.

        Returns:
            A picture, RGB or grey (as `raw_channels` says), numbers (C, *S) in [0, 1], or a Scan of such numbers, where a file or
            a range says what they mean. It may be given again, and is then taken as it is.

        Raises:
            ArgumentTypeError, InputError, MissingFileError: it cannot be read, or is no such thing as this classifier takes.

        >>> Preprocess(raw_channels=1).read(Image.new("RGB", (4, 3))).mode
        'L'
        """
        limits = check_range(value_range)
        warn_once(other_range(self.value_range, limits))
        return read_input(item, name, self.form, limits or self.value_range, said=limits is not None)

    def items(self, images: object) -> Iterator[tuple[str, object]]:
        """What a caller gives, one input at a time, with the name that messages call it: see `torchbcos.pictures.given`.

        >>> [name for name, _ in Preprocess(raw_channels=2, axes=1).items(torch.rand(3, 2, 50))]
        ['images[0]', 'images[1]', 'images[2]']
        """
        return each_input(images, self.form)

    def __call__(self, image: object) -> Tensor:
        """Encode one input.

        Args:
            image: a Pillow image of any mode, a (3, H, W) float tensor in [0, 1], or whatever else `read` takes.

        Returns:
            (C, *S) float32. For a tensor on its device, and differentiable.

        Raises:
            InputError, ArgumentTypeError, MissingFileError: see `read`.

        >>> Preprocess()(torch.full((3, 1, 1), 0.25)).flatten()
        tensor([0.2500, 0.2500, 0.2500, 0.7500, 0.7500, 0.7500])
        """
        return self._look(self.read(image))[0]

    def batch(self, images: object, *, value_range: Range | None = None) -> Tensor:
        """Encode inputs into one batch; each is read, placed and encoded before the next is read.

        Args:
            images: one input, a batch (N, C, *S), a folder, a pattern, a sequence or an iterator.
            value_range: the numbers that become 0 and 1; see `read`.

        Returns:
            (N, C, *S) float32.

        Raises:
            InputError: the encoded inputs differ in size, which `crop` would prevent.

        >>> Preprocess(resize=8, crop=8).batch([Image.new("L", (9, 12)), torch.rand(3, 20, 10)]).shape
        torch.Size([2, 6, 8, 8])
        """
        return self.stack(list(self.items(images)), value_range=value_range)

    def stack(self, items: Sequence[tuple[str, Any]], *, value_range: Range | None = None) -> Tensor:
        """`batch` of inputs that have names for messages, as `items` gives them.

        Raises:
            InputError: the encoded inputs differ in size, which `crop` would prevent.
        """
        return self.look(items, value_range=value_range)[0]

    def look(
        self, items: Sequence[tuple[str, Any]], *, value_range: Range | None = None, encode: bool = True
    ) -> tuple[Tensor, tuple[Seen, ...]]:
        """`stack`, and what part of each input is seen; `encode=False` leaves it as it is before it is encoded.

        Raises:
            InputError: the encoded inputs differ in size, which `crop` would prevent.

        >>> Preprocess(resize=8, crop=8).look([("a.png", Image.new("RGB", (24, 8)))])[1][0].note
        'centre crop, 33 % of the picture'
        """
        looked = [self._look(self._read(item, name, value_range), encode) for name, item in items]
        encoded = [tensor for tensor, _ in looked]
        first = encoded[0]
        for (name, _), tensor in zip(items, encoded, strict=True):
            if tensor.shape != first.shape:
                raise InputError(self._differ(items[0][0], first, name, tensor))
            if tensor.device != first.device:
                raise InputError(
                    f"The {self.form.kind}s of one batch need one device: {items[0][0]} is on {first.device}, "
                    f"{name} on {tensor.device}."
                )
        return torch.stack(encoded), tuple(seen for _, seen in looked)

    def _differ(self, first: str, a: Tensor, second: str, b: Tensor) -> str:
        """The sentence on two inputs of one batch that differ in size."""
        if self.axes == 2:
            (h0, w0), (h, w) = a.shape[1:], b.shape[1:]
            fix = "Set crop, or give them one at a time."
            return f"Pictures of one batch need one size: {first} is {w0} x {h0} pixels, {second} {w} x {h}. {fix}"
        sides = [" x ".join(map(str, x.shape[1:])) for x in (a, b)]
        fix = "Pad or cut them to one size, or give them one at a time (batch_size=1)."
        return (
            f"{self.form.kind.capitalize()}s of one batch need one size: {first} is {sides[0]} long, {second} {sides[1]}. {fix}"
        )

    def placed(self, item: object, name: str = "image") -> Placed:
        """One item read, resized and cut, which may be given in its place; arguments and errors as `read`.

        >>> Preprocess(crop=2).placed(Image.new("RGB", (4, 2), "red")).seen.share
        0.5
        """
        return Placed(*self._look(self.read(item, name), encode=False))

    def _read(self, item: object, name: str, value_range: Range | None) -> Image.Image | Tensor | Scan | Placed:
        return item if isinstance(item, Placed) else self.read(item, name, value_range=value_range)

    def _look(self, item: Image.Image | Tensor | Scan | Placed, encode: bool = True) -> tuple[Tensor, Seen]:
        if isinstance(item, Placed):
            return self.encode(item.pixels) if encode else item.pixels, item.seen
        facts = item.facts if isinstance(item, Scan) else None
        image = item.pixels if isinstance(item, Scan) else item
        width, height = (image.width, image.height) if isinstance(image, Image.Image) else (1, *image.shape[1:])[:-3:-1]
        seen = self.seen(width, height)
        placed = self.place(image)
        seen = seen if facts is None else dataclasses.replace(seen, scan=facts)
        return self.encode(placed) if encode else placed, seen

    def seen(self, width: int, height: int) -> Seen:
        """What part of a picture of that size is looked at.

        >>> Preprocess(resize=256, crop=224).seen(768, 256).box
        (272, 16, 496, 240)
        >>> Preprocess(resize=256, crop=224, fit="letterbox").seen(768, 256).share
        1.0
        """
        return self._frame.seen(width, height)

    def encode(self, pixels: Tensor, dim: int = 0) -> Tensor:
        """Pixels as a network takes them, without resizing.

        Args:
            pixels: float, in [0, 1]: (C, *S) with `dim=0`, (N, C, *S) with `dim=1`; any number of channels and space axes.
            dim: the axis of channels.

        Returns:
            The same shape but for the channels, of which there are `channels_of(C)`; differentiable.

        Raises:
            InputError: "normalize", and of another number of channels.

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
        fits = x.dim() >= 3 and {"add_inverse": x.shape[1] % 2 == 0, "normalize": x.shape[1] == self.raw_channels}.get(
            self.encoding, True
        )
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
        values = {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}
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
            InputError: "normalize", and of another number of channels.

        >>> Preprocess(resize=4, crop=4).array(torch.rand(2, 8, 6)).shape
        torch.Size([4, 4, 4])
        """
        return self.encode(self.place(x))

    def place(self, image: Image.Image | Tensor) -> Tensor:
        """Resize and crop an upright picture, or numbers (C, H, W) in [0, 1]; of other axes they stay. Nothing is encoded.

        Returns:
            (C, *S) float32 in [0, 1]: what `encode` takes.

        >>> Preprocess(crop=2).place(Image.new("RGB", (4, 3), "white")).mean()
        tensor(1.)
        """
        return image if isinstance(image, Tensor) and image.dim() != 3 else self._frame.place(image)

    def _moments(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Mean and std, to be broadcast over `x` with its channels at `dim`."""
        shape = [self.raw_channels if axis == dim % x.dim() else 1 for axis in range(x.dim())]
        return x.new_tensor(self.mean).reshape(shape), x.new_tensor(self.std).reshape(shape)

    @property
    def _frame(self) -> Frame:
        bars = self.mean or (0.5 if self.encoding == "add_inverse" else 0.0,)
        return Frame(resize=self.resize, crop=self.crop, fit=self.fit, interpolation=self.interpolation, bars=bars)
