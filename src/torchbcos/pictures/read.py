"""Reading pictures safely: a file, a Pillow image, an array or a tensor becomes an upright RGB picture.

Shapes: N images, H W space, 3 channels (red, green, blue).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import nearby, quote
from torchbcos.pictures import containers
from torchbcos.pictures.modes import flatten, scale_transparency, turn

__all__ = [
    "MAX_BYTES", "MAX_PIXELS", "ImageLike", "as_image", "as_images", "as_items", "check_tensor", "decode_image", "is_animated",
    "named_items", "read_image", "to_rgb",
]  # fmt: skip

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor

# Decoded, a pixel takes 4 bytes, and a conversion holds two or three copies. Pillow itself warns (which only global
# state could silence) about TIFF and GIF pictures above 89 megapixels, so those end there.
MAX_PIXELS = 178_000_000
MAX_BYTES = 2**30
_EMPTY = "images is empty: give at least one picture."
_LOWER_LIMITS = {"TIFF": 89_000_000, "GIF": 89_000_000}

# The readers themselves, not `Image.open`: it warns about big pictures before their size can be refused.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file as upright RGB: transparency over white, 16 bit scaled to 8, the first frame of several.

    Safe for threads and for files from anywhere: nothing but the six formats is tried, whatever the suffix says; the
    size is judged from the header before memory is taken; no global state of Pillow is read or changed.

    Args:
        path: a JPEG, PNG, GIF, WebP, BMP or TIFF file.

    Returns:
        An image of mode "RGB"; `is_animated` tells whether the file holds more than this picture.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no picture of these formats, broken, truncated, too large, or may not be read.

    >>> import tempfile, PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("CMYK", (4, 3)).save(f"{folder}/white.jpg")
    ...     read_image(f"{folder}/white.jpg").getpixel((0, 0))
    (255, 255, 255)
    """
    name = quote(path)
    kind, data = _read_bytes(path, name)
    return _decode(kind, data, name)


def decode_image(data: bytes, name: str) -> Image.Image:
    """The picture in the bytes of a file, as `read_image` reads it; `name` is what messages call it.

    Raises:
        InputError: as `read_image`.

    >>> file = io.BytesIO()
    >>> Image.new("L", (2, 1), 9).save(file, "PNG")
    >>> decode_image(file.getvalue(), "grey").getpixel((0, 0))
    (9, 9, 9)
    """
    kind = containers.identify(data[:512])
    if kind is None:
        raise _no_picture(name, data[:512])
    return _decode(kind, data, name)


def _decode(kind: str, data: bytes, name: str) -> Image.Image:
    with _refusing(name):
        container = containers.unpack(kind, data)
        if container.size is not None:
            _check_size(container.size, name, kind)
        image = _READERS[kind](io.BytesIO(container.data))
        _check_size(image.size, name, kind)
        if isinstance(image, TiffImageFile):
            tile = image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)
            _check_size(tile, name, kind)
        image.load()
        scale_transparency(image, container.depth)
        # a JPEG is RGB as it is decoded and keeps no file open: a copy would cost a fifth of the decoding
        rgb = image if kind == "JPEG" and image.mode == "RGB" else flatten(image, name, container.depth)
        upright = turn(rgb, container.orientation)
    return _mark(upright, container.animated)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any Pillow image into RGB as `read_image` does: upright, over white, scaled; the image is not changed.

    An image that comes from here or from `read_image` is returned itself, not copied.

    16-bit grey is divided by 257. Modes "I" and "F" do not say their range: it is the smallest of 0 to 1 ("F" only), to
    255, to 65535 that holds all values, else they are stretched from their lowest to their highest. An EXIF
    orientation that the image still carries is applied.

    Raises:
        ArgumentTypeError: `image` is no Pillow image.
        InputError: it cannot be decoded, is too large, has no pixels or holds NaN.

    >>> to_rgb(Image.new("LA", (2, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        raise ArgumentTypeError(f"to_rgb needs a PIL.Image.Image, got {type(image).__name__}.")
    name = f"The {image.mode} image of {image.width}x{image.height}"
    _check_size(image.size, name)
    if _is_ours(image):
        return image
    with _refusing(name):
        image.load()
        exif = image.info.get("exif")
        orientation = containers.read_orientation(exif) if isinstance(exif, bytes) else 1
        animated = is_animated(image)
        upright = turn(flatten(image, name), orientation)
    return _mark(upright, animated)


def _mark(image: Image.Image, animated: bool) -> Image.Image:
    """Note on an RGB image of ours what is known of it, so that `to_rgb` need not copy it again."""
    image.info = {"animated": animated, "upright": True}
    return image


def _is_ours(image: Image.Image) -> bool:
    """Whether `_mark` noted that an image, or one that it was copied, cut or resized from, is upright RGB."""
    changed = {"exif", "transparency"} & image.info.keys()
    return image.mode == "RGB" and image.info.get("upright") is True and not changed and 0 not in image.size


def is_animated(image: Image.Image) -> bool:
    """Whether the file that `image` was read from holds more frames or pages than this one.

    >>> is_animated(Image.new("RGB", (1, 1)))
    False
    """
    if "animated" in image.info:
        return bool(image.info["animated"])
    try:
        return bool(getattr(image, "is_animated", False))  # Pillow's own attribute; few of its classes have it
    except Exception:  # it searches the file for a second frame, which may be broken
        return False


def as_items(images: object) -> list[ImageLike]:
    """Split what a user calls images into single ones; files are not read yet, so a long list costs nothing.

    Args:
        images: a path, a Pillow image, an (H, W[, 3]) uint8 array, a (3, H, W) float tensor in [0, 1], a sequence of
            these, an (N, H, W, 3) uint8 array or an (N, 3, H, W) float tensor.

    Raises:
        ArgumentTypeError: something else came.
        InputError: the sequence or batch is empty.

    >>> as_items(["a.jpg", "b.jpg"])
    ['a.jpg', 'b.jpg']
    """
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        items: list[ImageLike] = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, Sequence) and not isinstance(images, (bytes, bytearray, memoryview)):
        items = list(images)
    else:
        raise ArgumentTypeError(
            "images must be a path, a PIL image, an (H, W[, 3]) uint8 array, a (3, H, W) float tensor, "
            f"or a list of these; got {type(images).__name__}."
        )
    if not items:
        raise InputError(_EMPTY)
    return items


def as_image(item: object, name: str = "image") -> Image.Image | Tensor:
    """One picture as an RGB Pillow image, or as a (3, H, W) float32 tensor if it is a tensor.

    Args:
        item: one element of `as_items`.
        name: what error messages call it.

    Raises:
        ArgumentTypeError: `item` is no picture.
        InputError: wrong dtype, shape or values; for files and Pillow images see `read_image` and `to_rgb`.

    >>> as_image(np.zeros((2, 3), np.uint8)).size
    (3, 2)
    """
    if isinstance(item, (str, os.PathLike)):
        return read_image(item)
    if isinstance(item, Image.Image):
        return to_rgb(item)
    if isinstance(item, np.ndarray):
        return _from_array(item, name)
    if isinstance(item, Tensor):
        return check_tensor(item, name)
    raise ArgumentTypeError(
        f"{name} must be a path, a PIL image, an (H, W[, 3]) uint8 array or a (3, H, W) float tensor; got {type(item).__name__}."
    )


def as_images(images: object) -> list[Image.Image | Tensor]:
    """Read what a user calls images: a list of RGB Pillow images and (3, H, W) float32 tensors.

    Args:
        images: see `as_items`.

    Raises:
        ArgumentTypeError, InputError, MissingFileError: see `as_items` and `as_image`; element i is called `images[i]`.

    >>> [image.shape for image in as_images(torch.rand(2, 3, 4, 5))]
    [torch.Size([3, 4, 5]), torch.Size([3, 4, 5])]
    """
    return [as_image(item, name) for name, item in named_items(images)]


def named_items(images: object) -> Iterator[tuple[str, ImageLike]]:
    """What a user calls images, one at a time, each with the name that messages call it; nothing is read yet.

    Args:
        images: see `as_items`; or an iterator of single ones, which is taken only as far as is asked for.

    Raises:
        ArgumentTypeError, InputError: see `as_items`; at once, not at the first step.

    >>> list(named_items("a.jpg")), next(named_items(f"{i}.jpg" for i in range(10)))
    ([('image', 'a.jpg')], ('images[0]', '0.jpg'))
    """
    if isinstance(images, Iterator):
        first = list(itertools.islice(images, 1))
        if not first:
            raise InputError(_EMPTY)
        return ((f"images[{i}]", item) for i, item in enumerate(itertools.chain(first, images)))
    items = as_items(images)
    if len(items) == 1 and items[0] is images:
        return iter([("image", items[0])])
    return ((f"images[{i}]", item) for i, item in enumerate(items))


def check_tensor(tensor: Tensor, name: str = "image") -> Tensor:
    """`tensor` as float32, if it is a picture: (3, H, W), floating point, every value in [0, 1].

    Raises:
        InputError: it is not; the message says how to make it one.

    >>> check_tensor(torch.ones(3, 1, 1, dtype=torch.float64)).dtype
    torch.float32
    """
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point():
        fix = f" Use {name}.float() / 255." if tensor.dtype == torch.uint8 else ""
        raise InputError(f"{name} must be a float tensor with values in [0, 1], got {tensor.dtype}.{fix}")
    if tensor.dim() != 3 or shape[0] != 3:
        raise InputError(f"{name} must have shape (3, H, W), got {shape}.{_shape_help(shape)}")
    if 0 in shape:
        raise InputError(f"{name} has no pixels: its shape is {shape}.")
    low, high = (float(v) for v in torch.aminmax(tensor.detach().float()))
    if low != low or high != high:
        raise InputError(f"{name} holds NaN; a picture's values lie in [0, 1].")
    if low < 0 or high > 1:
        fix = " Divide by 255." if low >= 0 and 1.5 < high <= 255 else " Undo its normalisation, or clamp it."
        raise InputError(f"{name} has values from {low:.4g} to {high:.4g}; a picture's lie in [0, 1].{fix}")
    return tensor.to(torch.float32)


def _shape_help(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] == 3:
        return " Channels come first: use .permute(2, 0, 1)."
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1):
        return " Repeat a grey picture three times: .expand(3, -1, -1)."
    if len(shape) == 3 and shape[0] == 4:
        return " Leave out its alpha channel: [:3]."
    if len(shape) == 3 and shape[0] == 6:
        return " Is it encoded already? Then give it to the network or to torchbcos.explain."
    return ""


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8:
        fixes = {"f": " Use (255 * a).round().astype('uint8').", "b": " Use a.astype('uint8') * 255."}
        fix = " Use (a // 257).astype('uint8')." if array.dtype == np.uint16 else fixes.get(array.dtype.kind, "")
        raise InputError(f"{name} must be a uint8 array with values 0 to 255, got {array.dtype}.{fix}")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        fix = " Channels come last: use a.transpose(1, 2, 0)." if array.ndim == 3 and array.shape[0] == 3 else ""
        if array.ndim == 3 and array.shape[2] == 4:
            fix = " For an alpha channel give PIL.Image.fromarray(a)."
        if array.ndim == 3 and array.shape[2] == 1:
            fix = " Use a[..., 0]."
        raise InputError(f"{name} must have shape (H, W) or (H, W, 3), got {array.shape}.{fix}")
    if array.size == 0:
        raise InputError(f"{name} has no pixels: its shape is {array.shape}.")
    image = Image.fromarray(array)  # of three channels it is a copy; of grey it may point at the caller's memory
    return _mark(image if image.mode == "RGB" else image.convert("RGB"), False)


def _read_bytes(path: str | os.PathLike[str], name: str) -> tuple[str, bytes]:
    """The kind and the bytes of a picture file, refused as early as possible."""
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError(f"A path must be a str or a pathlib.Path, got {type(path).__name__}.")
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{name} is a folder, not a picture: torchbcos.pictures.find_images lists the pictures in it.")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name} is no regular file (a pipe or a device?): copy the picture into a file first.")
        with open(path, "rb") as file:
            head = file.read(512)
            kind = containers.identify(head)
            if not head:
                raise InputError(f"{name} is empty (0 bytes): copy or download it again.")
            if kind is None:
                raise _no_picture(name, head)
            if found.st_size > MAX_BYTES:
                raise InputError(f"{name} has {found.st_size:,} bytes, more than the {MAX_BYTES:,} that are read.")
            return kind, head + file.read()
    except BcosError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{name} does not exist.{nearby(path)}") from None
    except PermissionError:
        raise InputError(f"{name} may not be read: permission denied. Change its permissions (chmod +r).") from None
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a null character in the name
        raise InputError(f"{name} cannot be read: {_one_line(error)}.") from error


def _no_picture(name: str, head: bytes) -> InputError:
    what = containers.name_other(head) if head else "nothing"
    kinds = ", ".join(containers.KINDS[:-1]) + " and " + containers.KINDS[-1]
    return InputError(f"{name} is no picture that can be read: it contains {what}; supported: {kinds}.")


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Whatever a decoder raises on broken bytes becomes one sentence."""
    try:
        yield
    except BcosError:
        raise
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory: make the picture smaller.") from error
    except Exception as error:  # Pillow's decoders raise some fifteen kinds on broken bytes, none of them documented
        if isinstance(error, (EOFError, IndexError)) or "truncated" in str(error) or containers.EARLY in str(error):
            raise InputError(f"{name} ends early: it is truncated. Copy or download it again.") from error
        raise InputError(f"{name} is damaged: {_one_line(error)}. Copy it again, or save it anew.") from error


def _one_line(error: BaseException) -> str:
    return shorten(" ".join(str(error).split()) or type(error).__name__, 160).rstrip(".")


def _check_size(size: tuple[int, int], name: str, kind: str = "") -> None:
    """Refuse a picture by its size, before any memory is taken."""
    width, height = size
    limit = _LOWER_LIMITS.get(kind, MAX_PIXELS)
    if width * height > limit:
        raise InputError(
            f"{name} has {width} x {height} = {width * height / 1e6:,.0f} megapixels, more than the "
            f"{limit / 1e6:,.0f} that are read: make it smaller first."
        )
