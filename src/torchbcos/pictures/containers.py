"""What a picture file holds, read from its bytes before any pixel is decoded.

Pillow gets only the parts of a file that make the first picture. Metadata (text, profiles, EXIF, further frames) never
reaches it, so metadata can neither warn, nor unpack into gigabytes, nor break a readable picture. `warnings` cannot be
silenced for one thread alone, and Pillow warns about metadata: leaving it out is the way that touches no global state.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from PIL import TiffTags

__all__ = ["EARLY", "KINDS", "identify", "name_other", "read_orientation", "unpack"]

KINDS = ("JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF")
EARLY = "it ends early"

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ORIENTATION = 274
# The tags that decide pixels: size, sample layout, compression, strips, tiles, palette, and JPEG or fax decoding.
_TIFF_TAGS = frozenset({
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347,
    512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532,
})  # fmt: skip
_TIFF_BYTES = (1, 2, 7)
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INSTEAD = (
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJX", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture"),
)


@dataclass(frozen=True)
class _Container:
    """The first picture of a file, cut free.

    Attributes:
        kind: one of KINDS.
        data: the bytes to decode.
        orientation: the EXIF orientation, 1 to 8; 1 is upright.
        animated: whether the file holds further frames or pages.
        depth: bits a sample, where the file says so (PNG); 8 elsewhere.
        size: (width, height), where it has to be known before Pillow opens the data.
    """

    kind: str
    data: bytes
    orientation: int = 1
    animated: bool = False
    depth: int = 8
    size: tuple[int, int] | None = None


def identify(head: bytes) -> str | None:
    """The kind of picture that begins with `head` (16 bytes are enough), or None.

    >>> identify(b"GIF89a")
    'GIF'
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(_PNG):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    return "BMP" if head.startswith(b"BM") else None


def name_other(head: bytes) -> str:
    """What bytes that are no readable picture look like: 'a PDF document', 'HTML text', 'unknown data', …"""
    if head[4:8] == b"ftyp":
        return {b"avif": "an AVIF picture", b"heic": "a HEIC picture"}.get(head[8:12], "a film or a HEIF picture")
    for start, what in _INSTEAD:
        if head.startswith(start):
            return what
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg"):
        return "an SVG drawing"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<")):
        return "HTML or XML text (an error page saved under this name?)"
    return "text" if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) else "unknown data"


def unpack(kind: str, data: bytes) -> _Container:
    """Cut the first picture out of a file of a known kind.

    Args:
        kind: one of KINDS, from `identify`.
        data: the whole file.

    Raises:
        ValueError, EOFError, struct.error, IndexError: the structure is broken; the caller names the file.
    """
    return _WALKERS[kind](data)


def read_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 if it is missing, absurd or unreadable.

    >>> read_orientation(b"Exif\\0\\0")
    1
    """
    block = exif
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    try:
        order = {b"II": "<", b"MM": ">"}[block[:2]]
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for i in range(count):
            tag, kind, _ = struct.unpack_from(order + "HHI", block, start + 2 + 12 * i)
            if tag == _ORIENTATION:
                return _small_number(block[start + 10 + 12 * i :], kind, order)
    except (KeyError, struct.error):
        pass
    return 1


def _small_number(field: bytes, kind: int, order: str) -> int:
    code = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}.get(kind)
    value = struct.unpack_from(order + code, field)[0] if code else 1
    return int(value) if 1 <= value <= 8 else 1


def _jpeg(data: bytes) -> _Container:
    """Keep the segments that decode pixels: all but comments and the application's, of which JFIF and Adobe's stay."""
    kept, at, orientation = [data[:2]], 2, 0
    while True:
        if data[at] != 0xFF:
            raise ValueError(f"byte {at} should begin a JPEG segment")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:
            raise EOFError(EARLY)
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if end > len(data):
            raise EOFError(EARLY)
        if marker == 0xDA:
            kept.append(data[at:])
            return _Container("JPEG", b"".join(kept), orientation or 1)
        body = data[at + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = orientation or read_orientation(body)
        elif (
            not (0xE0 <= marker <= 0xEF or marker == 0xFE)
            or (marker == 0xE0 and len(body) >= 7 and body.startswith(b"JFIF\0"))
            or (marker == 0xEE and len(body) >= 12 and body.startswith(b"Adobe"))
        ):
            kept.append(data[at:end])
        at = end


def _png(data: bytes) -> _Container:
    view = memoryview(data)
    kept, at, orientation, animated, tag = [view[:8]], 8, 1, False, b""
    while tag != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        tag, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise EOFError(EARLY)
        if tag in _PNG_PARTS:
            kept.append(view[at:end])
        elif tag == b"eXIf":
            orientation = read_orientation(data[at + 8 : end - 4])
        elif tag == b"acTL" and length >= 4:
            animated = struct.unpack_from(">I", data, at + 8)[0] > 1
        at = end
    return _Container("PNG", b"".join(kept), orientation, animated, depth=data[24])


def _gif(data: bytes) -> _Container:
    """Keep the header, the global palette, the first frame and the control block before it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    head, control = data[:at], b""
    while data[at : at + 1] == b"!":
        end = _skip_blocks(data, at + 2)
        control = data[at:end] if data[at + 1] == 0xF9 else control
        at = end
    if data[at : at + 1] != b",":
        raise ValueError("it holds no frame" if data[at : at + 1] == b";" else EARLY)
    left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
    end = _skip_blocks(data, at + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
    first = head + control + data[at:end] + b";"
    return _Container("GIF", first, animated=_has_frame(data, end), size=(max(width, left + w), max(height, top + h)))


def _has_frame(data: bytes, at: int) -> bool:
    """Whether a frame begins at `at` or after the extensions that begin there."""
    try:
        while data[at : at + 1] == b"!":
            at = _skip_blocks(data, at + 2)
    except IndexError:
        return False
    return data[at : at + 1] == b","


def _skip_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _webp(data: bytes) -> _Container:
    """Find size, orientation and number of frames; Pillow takes the canvas's memory as soon as it opens the file."""
    tag, orientation, frames, at = data[12:16], 1, 0, 12
    if tag == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
    elif tag == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    while at + 8 <= len(data):
        tag, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        frames += tag == b"ANMF"
        if tag == b"EXIF":
            orientation = read_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return _Container("WebP", data, orientation, frames > 1, size=(width, height))


def _bmp(data: bytes) -> _Container:
    return _Container("BMP", data)


def _tiff(data: bytes) -> _Container:
    """Rewrite the first directory in place, with the tags that decide pixels only; no offset moves."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    count_code, entry, offset_code, head = ("Q", "HHQ8s", "Q", 8) if big else ("H", "HHI4s", "I", 4)
    (start,) = struct.unpack_from(order + offset_code, data, head)
    (count,) = struct.unpack_from(order + count_code, data, start)
    first, step = start + struct.calcsize(order + count_code), struct.calcsize(order + entry)
    (following,) = struct.unpack_from(order + offset_code, data, first + step * count)
    kept, orientation, total = [], 1, 0
    for i in range(count):
        tag, kind, number, field = struct.unpack_from(order + entry, data, first + step * i)
        if tag == _ORIENTATION:
            orientation = _small_number(field, kind, order)
        if tag not in _TIFF_TAGS or kind not in _TIFF_SIZES or not number:
            continue
        size = number * _TIFF_SIZES[kind]
        total += size
        if size > len(field):
            (place,) = struct.unpack(order + offset_code, field)
            if place + size > len(data) or total > len(data):
                raise EOFError(EARLY)
        if number > 1 and kind not in _TIFF_BYTES and TiffTags.lookup(tag).length == 1:  # keep one where one belongs
            field = (data[place : place + len(field)] if size > len(field) else field).ljust(len(field), b"\0")
            number = 1 if _TIFF_SIZES[kind] <= len(field) else number
        kept.append(struct.pack(order + entry, tag, kind, number, field))
    out = bytearray(data)
    table = struct.pack(order + count_code, len(kept)) + b"".join(kept) + struct.pack(order + offset_code, 0)
    out[start : start + len(table)] = table
    return _Container("TIFF", bytes(out), orientation, 0 < following < len(data) and following != start)


_WALKERS: dict[str, Callable[[bytes], _Container]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
}
