"""Pictures to bytes and files, whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchbcos._core.errors import ArgumentTypeError, InputError, MissingFileError, StateError
from torchbcos._core.files import replacing
from torchbcos.rendering.overlay import over

__all__ = ["FORMATS", "save_image", "save_png", "to_uint8"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".pdf": "PDF"}
_PRINT = 300.0  # dots an inch of a PDF, whose page must have a size
_DOTS = (1, 100_000)
_OPAQUE = ("JPEG", "PDF")


def to_uint8(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Round a float picture in [0, 1] to bytes; bytes pass through.

    Args:
        picture: (H, W, 3) or (H, W, 4), float in [0, 1] (cut outside it) or uint8.

    Returns:
        The same shape, uint8.

    Raises:
        InputError: Another shape or dtype, or NaN.
        ArgumentTypeError: Not an array.

    Example:
        >>> to_uint8(np.array([[[0.0, 0.5, 1.0]]])).tolist()
        [[[0, 128, 255]]]
    """
    if not isinstance(picture, np.ndarray):
        raise ArgumentTypeError(f"picture must be a numpy array or a PIL image, got {type(picture).__name__}.")
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.size == 0:
        raise InputError(f"picture must be (H, W, 3) or (H, W, 4) with pixels, got {tuple(picture.shape)}.")
    if picture.dtype == np.uint8:
        return picture
    if picture.dtype.kind != "f":
        raise InputError(f"picture must be float in [0, 1] or uint8, got {picture.dtype}.")
    if np.isnan(picture).any():
        raise InputError("picture holds NaN.")
    rounded: NDArray[np.uint8] = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return rounded


def save_image(picture: NDArray[Any] | Image.Image, path: str | os.PathLike[str], *, dpi: float | None = None) -> Path:
    """Write a picture whole or not at all: to a new file in the same folder, which then takes the name.

    Args:
        picture: (H, W, 3) or (H, W, 4), float in [0, 1] or uint8, or a PIL image. JPEG and PDF have no opacity: there it is
            composed over white.
        path: Ends with .png, .jpg, .jpeg, .webp or .pdf. An existing file is replaced.
        dpi: Dots an inch, which says how large it is in print; None: not said, and 300 in a PDF. WebP cannot say it.

    Returns:
        The path.

    Raises:
        InputError: An unknown suffix, no picture, or a dpi out of range or in a WebP.
        MissingFileError: The folder does not exist.
        StateError: The file could not be written (disk full, no permission), or the format cannot hold the picture;
            an earlier file of that name is as it was.

    Example:
        >>> import tempfile
        >>> save_image(np.zeros((2, 2, 4)), Path(tempfile.mkdtemp()) / "a.png").name
        'a.png'
    """
    target = Path(path)
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise InputError(f"Cannot tell the format of {str(target)!r}; it must end with one of {', '.join(FORMATS)}.")
    dots = _checked_dpi(dpi, kind)
    if not target.parent.is_dir():
        raise MissingFileError(f"The folder {str(target.parent)!r} does not exist; make it before saving there.")
    data = _encode(picture, kind, target, dots)
    try:
        with replacing(target) as partial:
            partial.write_bytes(data)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StateError(f"Could not write {str(target)!r}: {reason}. Nothing was left behind.") from error
    return target


save_png = save_image  # its first name, from when it wrote PNG only


def _checked_dpi(dpi: float | None, kind: str) -> float | None:
    if dpi is None:
        return _PRINT if kind == "PDF" else None
    if isinstance(dpi, bool) or not isinstance(dpi, (int, float)):
        raise ArgumentTypeError(f"dpi must be a number, 300 for print, say; got {type(dpi).__name__}.")
    if not _DOTS[0] <= dpi <= _DOTS[1]:
        raise InputError(f"dpi must lie between {_DOTS[0]} and {_DOTS[1]:,} dots an inch, got {dpi:g}.")
    if kind == "WEBP":
        raise InputError("A WebP picture cannot say its dpi: choose .png, .jpg or .pdf.")
    return float(dpi)


def _options(kind: str, dots: float | None) -> dict[str, Any]:
    """What Pillow is told beside the format. A PDF without dates: one picture, the same bytes."""
    if kind == "PDF":
        return {"resolution": dots, "quality": 95, "subsampling": 0, "creationDate": None, "modDate": None}
    options: dict[str, Any] = {} if kind == "PNG" else {"quality": 92}
    return options if dots is None else {**options, "dpi": (dots, dots)}


def _encode(picture: NDArray[Any] | Image.Image, kind: str, target: Path, dots: float | None) -> bytes:
    if not isinstance(picture, Image.Image):
        array = to_uint8(picture)
        if kind in _OPAQUE and array.shape[2] == 4:
            array = to_uint8(over(array.astype(np.float32) / 255))
        picture = Image.fromarray(array)
    elif kind in _OPAQUE and picture.mode != "RGB":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("RGB")
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format=kind, **_options(kind, dots))
    except (OSError, ValueError, KeyError) as error:  # Pillow's ways to say: too large, or built without it
        raise StateError(
            f"Pillow cannot write a {picture.width}x{picture.height} picture as {kind} ({str(target)!r}): {error}. "
            "PNG holds any picture."
        ) from error
    return buffer.getvalue()
