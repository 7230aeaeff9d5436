"""Any Pillow image as an upright RGB one: orientation, transparency over white, and grey of more than 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from torchbcos._core.errors import InputError
from torchbcos.pictures.colour import sixteen_to_srgb, to_srgb
from torchbcos.pictures.samples import Range, Samples, window

__all__ = ["flatten", "scale_transparency", "turn"]

_BAND = 2**24  # pixels that are laid over white at once: a large picture is in memory twice, not four times
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Undo an EXIF orientation of 1 to 8; any other number counts as upright."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def scale_transparency(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour to the 8 bits that Pillow decodes its pixels to; Pillow leaves it as stored."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and image.mode == "L" and depth < 8:
        image.info["transparency"] = min(key * 255 // (2**depth - 1), 255)


def flatten(
    image: Image.Image, name: str, depth: int = 8, value_range: Range | None = None, profile: bytes | None = None
) -> tuple[Image.Image, str | None]:
    """A loaded image of any mode as a new RGB image in sRGB, over white, and a word on its numbers, if one is due."""
    if 0 in image.size:
        raise InputError(f"{name} has no pixels.")
    note, exact = None, None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        if "transparency" not in image.info and value_range is None:
            exact = sixteen_to_srgb(image, profile)
        image, note = _scale(image, name, depth, value_range)
        value_range = None
    elif depth == 16:
        note = _judge_cut(image, name, value_range)
    if image.mode == "La":  # premultiplied grey has one way out only
        image = image.convert("LA")
    if value_range is not None:
        image, note = window(image.convert("RGBA" if _has_alpha(image) else "RGB"), name, value_range)
    if not _has_alpha(image):
        return exact or to_srgb(image, "RGB", profile), note
    white = Image.new("RGB", image.size, (255, 255, 255))
    rows = max(_BAND // image.width, 1)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        rgba = to_srgb(image if rows >= image.height else image.crop(box), "RGBA", profile)
        white.paste(rgba, box, rgba.getchannel("A"))
    return white, note


def _has_alpha(image: Image.Image) -> bool:
    key = image.info.get("transparency")
    if image.mode == "P":
        palette = image.palette
        return isinstance(key, (int, bytes)) or (palette is not None and palette.mode.endswith("A"))
    if image.mode in ("1", "L"):
        return isinstance(key, int)
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (image.mode == "RGB" and isinstance(key, tuple))


def _scale(image: Image.Image, name: str, depth: int, value_range: Range | None) -> tuple[Image.Image, str | None]:
    """Grey of more than 8 bits as L (or LA, if one of its values is transparent), and what `Samples.judge` says of it."""
    values = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or depth == 16 or (image.mode == "I" and image.format == "PNG")
    samples = Samples("u", 16, value_range) if sixteen else Samples("f" if image.mode == "F" else "i", 32, value_range)
    picture = Image.fromarray(samples.to_bytes(values))
    note = samples.judge(name)
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return picture, note
    return Image.merge("LA", (picture, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))), note


def _judge_cut(image: Image.Image, name: str, value_range: Range | None) -> str | None:
    """What is to be said of a picture of 16 bits of which Pillow gave the upper 8: a PNG of colours, or with alpha."""
    what = "colour PNG" if image.mode == "RGB" else "PNG with transparency"  # which may be grey: Pillow makes it RGBA
    if value_range is not None:
        raise InputError(
            f"{name} is a {what} of 16 bits, of which the decoder keeps the upper 8: no range of numbers can be set for it. "
            "Save it as TIFF, or give its numbers as an array."
        )
    counts = np.array(image.histogram()).reshape(-1, 256)[: 1 if image.mode == "LA" else 3].sum(0)
    found = counts.nonzero()[0]
    samples = Samples("u", 16)
    samples.saw(256 * np.append(found, found[-1]) + np.append(0 * found, 255), np.append(counts[found], 0))
    return samples.judge(name, "save it as a TIFF of 16 bits (of this PNG only 8 are read) and ")
