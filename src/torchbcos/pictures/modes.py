"""Any Pillow image as an upright RGB one: orientation, transparency over white, and grey of more than 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from torchbcos._core.errors import InputError

__all__ = ["flatten", "scale_transparency", "turn"]

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


def flatten(image: Image.Image, name: str, depth: int = 8) -> Image.Image:
    """A loaded image of any mode as a new RGB image, transparency over white."""
    if 0 in image.size:
        raise InputError(f"{name} has no pixels.")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scale(image, name, depth)
    if not _has_alpha(image):
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # premultiplied grey has one way out only
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _has_alpha(image: Image.Image) -> bool:
    key = image.info.get("transparency")
    if image.mode == "P":
        palette = image.palette
        return isinstance(key, (int, bytes)) or (palette is not None and palette.mode.endswith("A"))
    if image.mode in ("1", "L"):
        return isinstance(key, int)
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (image.mode == "RGB" and isinstance(key, tuple))


def _scale(image: Image.Image, name: str, depth: int) -> Image.Image:
    """Grey of more than 8 bits as L (or LA, if one of its values is transparent), by the rule in `to_rgb`."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = (values.astype(np.uint32) * 255 + 32767) // 65535
    else:
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds NaN or infinity.")
        low, high = float(values.min()), float(values.max())
        tops = [65535.0] if depth == 16 else [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
        top = next((t for t in tops if low >= 0 and high <= t), None)
        base, span = (0.0, top) if top is not None else (low, (high - low) or 1.0)
        grey = np.rint((values.astype(np.float64) - base) * (255 / span))
    picture = Image.fromarray(grey.astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return picture
    return Image.merge("LA", (picture, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
