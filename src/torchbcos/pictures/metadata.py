"""Which way up a picture is and what its colours mean, from the blocks of metadata that its file holds.

Blocks come from strangers: nothing is unpacked before its size is known, and what is broken counts as absent.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from torchbcos.pictures.colour import MAX_PROFILE

__all__ = [
    "find_orientation", "inflate_profile", "join_profile", "note_orientation", "read_number", "read_orientation",
    "read_raw_profile", "read_text",
]  # fmt: skip

_ORIENTATION = 274
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_EXIF_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f"}
_EXIF_PAIRS = {5: "II", 10: "ii"}  # numerator and denominator, stored apart from the table
# EXIF and XMP of a picture are a few kilobytes; what is longer is cut, which leaves the orientation near its start.
_MAX_TEXT = 2**20


def find_orientation(exif: int | None, xmp: bytes) -> int:
    """The orientation of a picture, 1 to 8: EXIF's, or where EXIF has none, XMP's; 1 is upright, and whatever is absurd.

    >>> find_orientation(None, b'<rdf:Description tiff:Orientation="6"/>')
    6
    """
    found = _XMP.search(xmp) if exif is None else None
    value = (exif or 1) if found is None else int(found[1])
    return value if 1 <= value <= 8 else 1


def read_orientation(exif: bytes) -> int | None:
    """The orientation that an EXIF block states, 0 if it is absurd; None if it states none.

    >>> read_orientation(b"Exif\\0\\0") is None
    True
    """
    start = 0
    while exif.startswith(b"Exif\0\0", start):
        start += 6
    block = exif[start:]
    try:
        order = {b"II": "<", b"MM": ">"}[block[:2]]
        (first,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, first)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(order + "HHI", block, at)
            if tag == _ORIENTATION:
                return read_number(block, at + 8, kind, order)
    except (KeyError, struct.error):
        pass
    return None


def read_number(block: bytes, at: int, kind: int, order: str) -> int:
    """The number from 1 to 8 in a field of a TIFF's table, of any type (TIFF 6.0, section 2); 0 if it holds another."""
    try:
        if kind in _EXIF_PAIRS:
            (place,) = struct.unpack_from(order + "I", block, at)
            above, below = struct.unpack_from(order + _EXIF_PAIRS[kind], block, place)
            value = above / below if below else 0
        else:
            value = struct.unpack_from(order + _EXIF_TYPES[kind], block, at)[0] if kind in _EXIF_TYPES else 0
    except struct.error:
        return 0
    return int(value) if value in range(1, 9) else 0


def note_orientation(info: Mapping[Any, object]) -> int:
    """The orientation that an image of Pillow still carries in its `info`, where `ImageOps.exif_transpose` looks for it.

    >>> note_orientation({"xmp": b'<tiff:Orientation>3</tiff:Orientation>'})
    3
    """
    exif, raw = info.get("exif"), info.get("Raw profile type exif")
    if not isinstance(exif, bytes):
        exif = read_raw_profile(raw.encode("latin-1", "replace")) if isinstance(raw, str) else b""
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp")
    xmp = xmp.encode(errors="replace") if isinstance(xmp, str) else xmp
    return find_orientation(read_orientation(exif), xmp if isinstance(xmp, bytes) else b"")


def read_raw_profile(text: bytes) -> bytes:
    """An EXIF block that ImageMagick wrote into a PNG as text: a blank line, its name, its length, hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def join_profile(parts: list[bytes]) -> bytes | None:
    """The colour profile in the APP2 segments of a JPEG (ICC.1:2010, B.4): each has its number and how many there are."""
    if not parts or min(map(len, parts)) < 2:
        return None
    ordered = sorted(parts, key=lambda part: part[0])
    return b"".join(part[2:] for part in ordered) if ordered[0][1] == len(ordered) else None


def inflate_profile(body: bytes) -> bytes | None:
    """The colour profile in a PNG's iCCP chunk; its own header says how long it is, so a bomb is never unpacked."""
    unpacker = zlib.decompressobj()
    try:
        _, packed = body.split(b"\0", 1)
        head = unpacker.decompress(packed[1:], 128)
        size = int.from_bytes(head[:4], "big")
        if packed[:1] != b"\0" or head[36:40] != b"acsp" or not 128 < size <= MAX_PROFILE:
            return None
        return head + unpacker.decompress(unpacker.unconsumed_tail, size - 128)
    except (ValueError, zlib.error):
        return None


def read_text(tag: bytes, body: bytes) -> bytes:
    """The value of a PNG's text chunk, tEXt, zTXt or iTXt, as bytes; empty if it is broken.

    >>> read_text(b"tEXt", b"Title\\0Sunset")
    b'Sunset'
    """
    value, packed = body.partition(b"\0")[2], tag == b"zTXt"
    if tag == b"zTXt":
        value = value[1:]
    elif tag == b"iTXt":
        packed, value = value[:1] != b"\0", value[2:].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return zlib.decompressobj().decompress(value, _MAX_TEXT) if packed else value
    except zlib.error:
        return b""
