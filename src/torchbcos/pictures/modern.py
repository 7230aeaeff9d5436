"""Pictures of the kinds that phones and browsers write today (AVIF, HEIC), and icons: which library reads them, if it is here.

What is inside is told by the first bytes alone; the size is known before a pixel is decoded.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Callable
from typing import Any

from PIL import Image, __version__
from PIL.IcoImagePlugin import IcoImageFile

from torchbcos._core.errors import InputError, MissingPackageError
from torchbcos._core.optional import require

__all__ = ["MODERN_SUFFIXES", "identify_modern", "inner_png", "open_modern"]

_HAS_AVIF = importlib.util.find_spec("PIL._avif") is not None
_HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
# looked for in folders only where they can be read: one folder of a phone should not fail picture by picture
MODERN_SUFFIXES = (*((".avif",) if _HAS_AVIF else ()), *((".heic", ".heif") if _HAS_HEIF else ()))
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ICON, _PNG = b"\0\0\1\0", b"\x89PNG\r\n\x1a\n"
_MOST_ICONS = 64


def identify_modern(head: bytes) -> str | None:
    """ "AVIF", "HEIC" or "ICO" of a file that begins so, or None.

    >>> identify_modern(bytes([0, 0, 0, 28]) + b"ftypmif1" + bytes(4) + b"mif1avif"), identify_modern(b"GIF89a")
    ('AVIF', None)
    """
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
        if not brands.isdisjoint(_AVIF):
            return "AVIF"
        return "HEIC" if head[8:12] in _HEIF else None
    return "ICO" if head.startswith(_ICON) and 0 < int.from_bytes(head[4:6], "little") <= _MOST_ICONS else None


def open_modern(kind: str, data: bytes, name: str) -> Image.Image:
    """The picture in a file of a kind from `identify_modern`, not decoded yet.

    Raises:
        MissingPackageError: what reads this kind is not installed.
        InputError: it is an icon of which nothing can be read.
    """
    if kind == "ICO":
        return IcoImageFile(io.BytesIO(_largest(data, name)[1]))
    if kind == "HEIC":
        reader: Callable[[Any], Image.Image] = require(
            "pillow_heif", extra="heic", why=f"{name} is a HEIC picture: reading it"
        ).HeifImageFile
        return reader(io.BytesIO(data))
    if not _HAS_AVIF:
        raise MissingPackageError(
            f"{name} is an AVIF picture, which Pillow {__version__} cannot read here: pip install 'pillow>=11.3', or save it as "
            "PNG."
        )
    reader = require("PIL.AvifImagePlugin", extra="heic", why=f"{name} is an AVIF picture: reading it").AvifImageFile
    return reader(io.BytesIO(data))


def inner_png(data: bytes, name: str) -> bytes | None:
    """The PNG that is the largest picture of an icon; None where that is a bitmap."""
    inner = _largest(data, name)[0]
    return inner if inner.startswith(_PNG) else None


def _largest(data: bytes, name: str) -> tuple[bytes, bytes]:
    """The largest picture in an icon's file, bare, and as an icon of its own: Pillow gets nothing else to decode."""
    count = int.from_bytes(data[4:6], "little")
    entries = [struct.unpack_from("<BBBBHHII", data, 6 + 16 * i) for i in range(count) if 22 + 16 * i <= len(data)]
    if not entries:
        raise InputError(f"{name} ends early: it is truncated. Copy or download it again.")
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))  # 0 stands for 256
    inner = data[best[7] : best[7] + best[6]]
    if len(inner) < best[6] or len(inner) < 40:
        raise InputError(f"{name} ends early: it is truncated. Copy or download it again.")
    width, height = struct.unpack_from("<ii", inner, 4)  # of a bitmap: its mask lies below, so it is twice as high
    if not inner.startswith(_PNG) and not (0 < width <= 256 and 0 < height <= 512):
        raise InputError(f"{name} is damaged: its icon has {width} x {height // 2} pixels, and may have 256. Save it anew.")
    return inner, _ICON + b"\1\0" + struct.pack("<BBBBHHII", *best[:7], 22) + inner
