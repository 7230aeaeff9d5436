"""Reading pictures safely: a file or a Pillow image becomes an upright RGB picture."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from collections.abc import Callable, Iterator

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import nearby, quote
from torchbcos.pictures import containers
from torchbcos.pictures.colour import make_srgb, note_profile
from torchbcos.pictures.metadata import note_orientation
from torchbcos.pictures.modern import identify_modern, inner_png, open_modern
from torchbcos.pictures.modes import flatten, scale_transparency, turn
from torchbcos.pictures.others import name_other
from torchbcos.pictures.samples import Range, check_range
from torchbcos.pictures.tiff import check_opened, layout_of, read_tags, sizes_in
from torchbcos.pictures.tiff_pixels import decode_tiff

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "decode_image",
    "is_animated",
    "mark",
    "read_image",
    "take_note",
    "to_rgb",
    "was_ranged",
]

# Decoded, a pixel takes 4 bytes, and a conversion holds two copies. Above 89 megapixels of TIFF and GIF Pillow warns (which only
# global state could silence), and libwebp holds three canvases. Runs in a BMP are decoded in Python. A row costs memory too.
MAX_PIXELS = 178_000_000
MAX_BYTES = 2**30
MAX_SIDE = 10_000_000
_NOTE, _RANGED = "torchbcos: note", "torchbcos: ranged"
_LOWER_LIMITS = {"TIFF": 89_000_000, "GIF": 89_000_000, "WebP": 89_000_000, "BMP of runs": 10_000_000}

# The readers themselves, not `Image.open`: it warns about big pictures before their size can be refused.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}


def read_image(path: str | os.PathLike[str], *, value_range: Range | None = None) -> Image.Image:
    """Read a picture file as upright sRGB: transparency over white, numbers scaled to 8 bits, the first frame of several.

    A colour profile in the file (of RGB, grey or CMYK; of a PNG also gAMA, cHRM and cICP) is converted to sRGB, relative
    colorimetric, as Pillow's `ImageCms` does it; one that is broken or belongs to another kind of picture counts as none. The
    orientation is EXIF's, else XMP's. With a `value_range` the numbers are measurements: no profile is applied.

    Safe for threads and for files from anywhere: nothing but these formats is tried, whatever the suffix says; the
    size is judged from the header before memory is taken; no global state of Pillow is read or changed.

    Args:
        path: a JPEG, PNG, GIF, WebP, BMP, TIFF or ICO file, AVIF (from Pillow 11.3 on), or HEIC (with pillow-heif).
        value_range: the stored numbers that are black and white, (0, 4095) for 12 bits in 16, say; what lies outside is cut to
            these ends. None: 0 and the greatest number of unsigned integers, 0 and 1 of floats.

    Returns:
        An image of mode "RGB"; `is_animated` tells whether the file holds more than this picture, `take_note` whether its numbers
        fill so little of their range that it is all but black.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no picture of these formats, broken, truncated, too large, or may not be read; or nothing says which of
            its numbers are black and white (floats beyond [0, 1], signed integers).

    >>> import tempfile, PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("CMYK", (4, 3)).save(f"{folder}/white.jpg")
    ...     read_image(f"{folder}/white.jpg").getpixel((0, 0))
    (255, 255, 255)
    """
    name = quote(path)
    limits = check_range(value_range)
    kind, data = _read_bytes(path, name)
    return _decode(kind, data, name, limits)


def decode_image(data: bytes, name: str, *, value_range: Range | None = None, most: int = MAX_PIXELS) -> Image.Image:
    """The picture in the bytes of a file, as `read_image` reads it; `name` is what messages call it.

    One of more pixels than `most` is refused by its header.

    Raises:
        InputError: as `read_image`.

    >>> file = io.BytesIO()
    >>> Image.new("L", (2, 1), 9).save(file, "PNG")
    >>> decode_image(file.getvalue(), "grey").getpixel((0, 0))
    (9, 9, 9)
    """
    kind = _identify(data[:512], name)
    _check_length(len(data), name)
    return _decode(kind, data, name, check_range(value_range), most)


def _decode(kind: str, data: bytes, name: str, value_range: Range | None, most: int = MAX_PIXELS) -> Image.Image:
    limits = value_range
    if kind in ("AVIF", "HEIC", "ICO"):
        return _decode_modern(kind, data, name, limits, most)
    with _refusing(name, kind):
        container = containers.unpack(kind, data)
        if container.size is not None:
            _check_size(container.size, name, container.kind, most)
        note: str | None = None
        profile = container.profile if value_range is None else None  # numbers with a range of their own are measurements
        if kind == "TIFF":
            order, tags = read_tags(container.data)
            for size in sizes_in(tags):
                _check_size(size, name, kind, most)
            layout = layout_of(order, tags, name)
            image, note, value_range = decode_tiff(layout, container.data, name, value_range)
        else:
            image = _READERS[kind](io.BytesIO(container.data))
            _check_size(image.size, name, container.kind, most)
            image.load()
        scale_transparency(image, container.depth)
        # a JPEG is RGB as it is decoded and keeps no file open: a copy would cost half of the decoding
        if not (kind == "JPEG" and image.mode == "RGB" and value_range is None):
            image, found = flatten(image, name, container.depth, value_range, profile)
            note = note or found
        elif profile is not None:
            make_srgb(image, profile)
        upright = turn(image, container.orientation)
    return mark(upright, container.animated, note, ranged=limits is not None)


def _decode_modern(kind: str, data: bytes, name: str, value_range: Range | None, most: int) -> Image.Image:
    """The same of what another library reads; it undoes the orientation, or leaves it in `info`."""
    with _refusing(name, kind):
        png = inner_png(data, name) if kind == "ICO" else None
        if png is not None:
            return _decode("PNG", png, name, value_range, most)
        image = open_modern(kind, data, name)
        _check_size(image.size, name, kind, most)
        animated = is_animated(image)
        image.load()
        flat, note = flatten(image, name, 8, value_range, note_profile(image) if value_range is None else None)
        upright = turn(flat, note_orientation(image.info))
    return mark(upright, animated, note, ranged=value_range is not None)


def to_rgb(image: Image.Image, *, value_range: Range | None = None) -> Image.Image:
    """Turn any Pillow image into RGB as `read_image` does: upright, over white, scaled; the image is not changed.

    An image that comes from here or from `read_image` is returned itself, not copied.

    16-bit grey is divided by 257; numbers of mode "F" lie in [0, 1], and those of mode "I" have no range that is known. No
    scale is guessed from the values. A profile and an orientation that the image still carries in its `info` are applied.

    Args:
        image: of any mode.
        value_range: the numbers of black and white; see `read_image`.

    Raises:
        ArgumentTypeError: `image` is no Pillow image.
        InputError: it cannot be decoded, is too large, has no pixels, holds NaN or numbers whose range nobody said.

    >>> to_rgb(Image.new("LA", (2, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        raise ArgumentTypeError(f"to_rgb needs a PIL.Image.Image, got {type(image).__name__}.")
    name = f"The {image.mode} image of {image.width}x{image.height}"
    limits = check_range(value_range)
    _check_size(image.size, name)
    if limits is None and _is_ours(image):
        return image
    with _refusing(name):
        if isinstance(image, TiffImageFile):
            check_opened(image, name)
        image.load()
        animated = is_animated(image)
        profile = note_profile(image) if limits is None else None
        flat, note = flatten(image, name, 8, limits, profile)
        upright = turn(flat, note_orientation(image.info))
    return mark(upright, animated, note, ranged=limits is not None)


def mark(image: Image.Image, animated: bool, note: str | None = None, *, ranged: bool = False) -> Image.Image:
    """Note on an RGB image of ours what is known of it, so that `to_rgb` need not copy it again."""
    image.info = {"animated": animated, "upright": True, **({} if note is None else {_NOTE: note})}
    if ranged:
        image.info[_RANGED] = True
    return image


def was_ranged(image: Image.Image) -> bool:
    """Whether an image of ours was read with a range of numbers, so that its bytes lie within one.

    >>> was_ranged(to_rgb(Image.new("L", (2, 1)), value_range=(0, 9))), was_ranged(to_rgb(Image.new("L", (2, 1))))
    (True, False)
    """
    return image.info.get(_RANGED) is True


def take_note(image: object) -> str | None:
    """What a user should hear of a picture that was read: its numbers fill a sixteenth of their range, say. It is said once.

    >>> dark = Image.new("I;16", (2, 1), 9)
    >>> dark.putpixel((0, 0), 0)
    >>> dark = to_rgb(dark, value_range=(0, 4095))
    >>> take_note(dark)
    'The I;16 image of 2x1 holds values from 0 to 9, the darkest sixteenth of the range from 0 to 4095. Is that meant?'
    >>> take_note(dark)
    """
    found = image.info.pop(_NOTE, None) if isinstance(image, Image.Image) and _is_ours(image) else None
    return found if isinstance(found, str) else None


def _is_ours(image: Image.Image) -> bool:
    """Whether `mark` noted that an image, or one that it was copied, cut or resized from, is upright RGB."""
    changed = {"exif", "icc_profile", "transparency"} & image.info.keys()
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
            kind = _identify(head, name)
            _check_length(found.st_size, name)
            return kind, head + file.read()
    except BcosError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{name} does not exist.{nearby(path)}") from None
    except PermissionError:
        raise InputError(f"{name} may not be read: permission denied. Change its permissions (chmod +r).") from None
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a null character in the name
        raise InputError(f"{name} cannot be read: {shorten(' '.join(str(error).split()), 160).rstrip('.')}.") from error


def _check_length(length: int, name: str) -> None:
    if length > MAX_BYTES:
        raise InputError(f"{name} has {length:,} bytes, more than the {MAX_BYTES:,} that are read.")


def _identify(head: bytes, name: str) -> str:
    if not head:
        raise InputError(f"{name} is empty (0 bytes): copy or download it again.")
    kind = containers.identify(head) or identify_modern(head)
    kinds = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC and ICO"
    if kind is None:
        raise InputError(f"{name} is no picture that can be read: it contains {name_other(head)}; supported: {kinds}.")
    return kind


@contextlib.contextmanager
def _refusing(name: str, kind: str = "picture") -> Iterator[None]:
    """Whatever a decoder raises on broken bytes becomes one sentence; its own words, meant for programmers, are its cause."""
    try:
        yield
    except BcosError:
        raise
    except containers.Unreadable as error:
        raise InputError(f"{name} is {error}, which is not read: save it as an ordinary PNG or JPEG.") from None
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory: make the picture smaller.") from error
    except Exception as error:  # Pillow's decoders raise some fifteen kinds on broken bytes, none of them documented
        early = isinstance(error, (EOFError, IndexError, struct.error))
        if early or "truncated" in str(error).lower() or containers.EARLY in str(error):
            raise InputError(f"{name} ends early: it is truncated. Copy or download it again.") from error
        if "unsupported" in str(error).lower():
            raise InputError(
                f"{name} is a {kind} of a rare kind, which is not read: save it as an ordinary PNG or JPEG."
            ) from error
        raise InputError(f"{name} is damaged: its {kind} data cannot be decoded. Copy it again, or save it anew.") from error


def _check_size(size: tuple[int, int], name: str, kind: str = "", most: int = MAX_PIXELS) -> None:
    """Refuse a picture by its size, before any memory is taken."""
    width, height = size
    limit = min(_LOWER_LIMITS.get(kind, MAX_PIXELS), most)
    if max(size) > MAX_SIDE:
        raise InputError(f"{name} has {width} x {height} pixels, and a side of more than {MAX_SIDE:,}: cut it into parts first.")
    if width * height > limit:
        has = f"{name} has {width} x {height} = {width * height / 1e6:,.0f} megapixels"
        raise InputError(f"{has}, more than the {limit / 1e6:,.0f} that are read: make it smaller first.")
