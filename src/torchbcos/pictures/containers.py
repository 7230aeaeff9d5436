"""What a picture file holds, read from its bytes before any pixel is decoded.

Pillow gets only the parts of a file that make the first picture. Metadata (text, profiles, EXIF, further frames) never
reaches it, so metadata can neither warn, nor unpack into gigabytes, nor break a readable picture. `warnings` cannot be
silenced for one thread alone, and Pillow warns about metadata: leaving it out is the way that touches no global state.

Where a decoder passes over stray bytes, so do the walkers here: what every viewer shows is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import TiffTags

from torchbcos.pictures import metadata
from torchbcos.pictures.colour import MAX_PROFILE, make_profile

__all__ = ["EARLY", "KINDS", "Unreadable", "identify", "unpack"]

KINDS = ("JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF")
EARLY = "it ends early"

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_NOTES = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf")
_PNG_TEXTS = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")
# Code points of ITU-T H.273 that a matrix and a curve can express: primaries as x, y of white, red, green, blue; 1 / gamma.
_CICP_PRIMARIES = {
    1: None,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_CICP_CURVES = {4: 2.2, 5: 2.8, 8: 1.0, 13: None}
# Fill bytes and whatever stands before a marker are passed over, as libjpeg does.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
_JPEG_BETWEEN_SCANS = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # restarts stand within a scan
_JPEG_BARE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})  # no length follows
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_DIFFERENTIAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_GIF_BLOCK = re.compile(rb"[!,;]")  # whatever else stands between blocks is passed over
_WEBP_NOTES = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
_BMP_NAMES = {4: "a JPEG inside", 5: "a PNG inside", 11: "inks", 12: "inks", 13: "inks"}
_ORIENTATION, _XMP, _PROFILE = 274, 700, 34675
# A writer needs some ten scans. Each costs a pass over the whole picture, however few bytes it has.
_MAX_SCANS = 100
# Segments, chunks or blocks before the picture: beyond these a file is made to be slow.
_MAX_PARTS = 250_000
_MAX_BLOCKS = 4_000_000  # of a GIF's frame, of 255 bytes at most
_MAX_HEAD = 2**25
# The tags that decide pixels: size, sample layout, compression, strips, tiles, palette, and JPEG or fax decoding.
_TIFF_TAGS = frozenset({
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347,
    512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532,
})  # fmt: skip
_TIFF_BYTES = (1, 2, 7)
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


_Notes = dict[bytes, tuple[bytes, bytes]]  # of a PNG: name -> (tag, body) of the last chunk of that name


class Unreadable(Exception):
    """A sound file of a kind that no decoder here reads; its text completes the sentence 'the file is …'."""


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
        profile: the ICC profile that says what its numbers mean; None: none, so they are sRGB.
    """

    kind: str
    data: bytes
    orientation: int = 1
    animated: bool = False
    depth: int = 8
    size: tuple[int, int] | None = None
    profile: bytes | None = None


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
    if head.startswith(
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
    ):  # the last two: read by all, written by error
        return "TIFF"
    return "BMP" if head.startswith(b"BM") else None


def unpack(kind: str, data: bytes) -> _Container:
    """Cut the first picture out of a file of a known kind.

    Args:
        kind: one of KINDS, from `identify`.
        data: the whole file.

    Raises:
        ValueError, EOFError, struct.error, IndexError: the structure is broken; the caller names the file.
        Unreadable: it is sound, but nothing here decodes it.
    """
    return _WALKERS[kind](data)


def _parts() -> Iterator[int]:
    """The numbers of the parts that a file may have."""
    yield from range(_MAX_PARTS)
    raise Unreadable(f"a file of more than {_MAX_PARTS:,} parts")


def _jpeg(data: bytes) -> _Container:
    """Keep the segments that decode pixels: all but comments and the application's, of which JFIF and Adobe's stay."""
    view = memoryview(data)
    kept, at, parts = [view[:2]], 2, _parts()
    exif: list[bytes] = []
    profile: list[bytes] = []
    xmp = b""
    while next(parts) >= 0 and (found := _JPEG_MARKER.search(data, at)) is not None and found[1] != b"\xd9":
        marker, at = found[1][0], found.end()
        if marker in _JPEG_BARE:
            continue
        end = at + max(struct.unpack_from(">H", data, at)[0], 2)
        if end > len(data):
            break
        if marker == 0xDA:
            _check_scans(data, at)
            kept.append(view[at - 2 :])
            orientation = metadata.find_orientation(metadata.read_orientation(b"".join(exif)), xmp)
            return _Container("JPEG", b"".join(kept), orientation, profile=metadata.join_profile(profile))
        if marker == 0xE1 and data.startswith(b"Exif\0\0", at + 2):
            exif.append(data[at + (8 if exif else 2) : end])
        elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", at + 2):
            xmp = data[at + 31 : end]
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0", at + 2):
            profile.append(data[at + 14 : end])
        elif _decodes(marker, data[at + 2 : end]):
            kept.append(view[found.end() - 2 : end])
        at = end
    raise EOFError(EARLY)


def _decodes(marker: int, body: bytes) -> bool:
    """Whether a JPEG's segment has a part in decoding."""
    if marker in _JPEG_FRAMES or marker == 0xF7:
        _check_frame(marker, body)
    return (
        not (0xE0 <= marker <= 0xEF or marker == 0xFE)
        or (marker == 0xE0 and len(body) >= 7 and body.startswith(b"JFIF\0"))
        or (marker == 0xEE and len(body) >= 12 and body.startswith(b"Adobe"))
    )


def _check_frame(marker: int, body: bytes) -> None:
    """Say which kinds of JPEG libjpeg leaves out (ITU-T T.81, table B.1)."""
    bits, height, _, channels = struct.unpack_from(">BHHB", body)
    if marker == 0xF7:
        raise Unreadable("a JPEG-LS picture")
    if marker in _JPEG_DIFFERENTIAL:
        raise Unreadable("a hierarchical JPEG")
    if marker == 0xCB:
        raise Unreadable("a lossless JPEG with arithmetic coding")
    if bits != 8:
        raise Unreadable(f"a JPEG of {bits} bits a sample")
    if channels not in (1, 3, 4):
        raise Unreadable(f"a JPEG of {channels} channels")
    if height == 0:
        raise Unreadable("a JPEG that tells its height only at its end")


def _check_scans(data: bytes, at: int) -> None:
    pairs = (
        np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (at, at + 1)
    )  # ten times as fast as `count`
    if sum(np.count_nonzero(pair == 0xDAFF) for pair in pairs) < _MAX_SCANS:  # also of pictures that follow: never too few
        return
    scans, parts = 1, _parts()
    while next(parts) >= 0 and (found := _JPEG_BETWEEN_SCANS.search(data, at)) is not None and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        if scans > _MAX_SCANS:
            raise Unreadable(f"a JPEG of more than {_MAX_SCANS} scans")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def _png(data: bytes) -> _Container:
    if data[12:16] == b"CgBI":
        raise Unreadable("a PNG in Apple's own variant for telephones (CgBI)")
    view = memoryview(data)
    kept, at, animated, tag, parts = [view[:8]], 8, False, b"", _parts()
    notes: _Notes = {}
    while next(parts) >= 0 and tag != b"IEND":
        tag = data[at + 4 : at + 8]
        length = int.from_bytes(data[at : at + 4], "big")
        end, body = at + 12 + length, view[at + 8 : at + 8 + length]
        if tag == b"IDAT":
            kept.append(view[at:end])
        elif end > len(data):
            if b"IDAT" not in (bytes(part[4:8]) for part in kept):
                raise EOFError(EARLY)
            break  # the picture is whole, or its decoder will say that it is not
        elif tag in _PNG_PARTS:
            kept.append(view[at:end])
        elif tag in _PNG_NOTES:
            notes[tag] = tag, bytes(body)
        elif tag in (b"tEXt", b"zTXt", b"iTXt") and (key := bytes(body[:80]).partition(b"\0")[0]) in _PNG_TEXTS:
            notes[key] = tag, bytes(body)
        elif tag == b"acTL" and length >= 4:
            animated = int.from_bytes(body[:4], "big") > 1
        at = end
    depth, grey = data[24], data[25] in (0, 4)
    return _Container("PNG", b"".join(kept), _turn_of_png(notes), animated, depth, profile=_profile_of_png(notes, grey))


def _turn_of_png(notes: _Notes) -> int:
    texts = {key: metadata.read_text(*notes[key]) for key in _PNG_TEXTS if key in notes}
    exif = notes[b"eXIf"][1] if b"eXIf" in notes else texts.get(b"exif")
    if exif is None:
        exif = metadata.read_raw_profile(texts.get(b"Raw profile type exif", b""))
    return metadata.find_orientation(metadata.read_orientation(exif), texts.get(b"XML:com.adobe.xmp", b""))


def _profile_of_png(notes: _Notes, grey: bool) -> bytes | None:
    """What a PNG says of its colours: by cICP, else iCCP, else sRGB, else gAMA and cHRM (PNG, third edition, section 4.3)."""
    bodies = {key: body for key, (_, body) in notes.items()}
    code = bodies.get(b"cICP", b"").ljust(4, b"\0")
    if code[0] in _CICP_PRIMARIES and code[1] in _CICP_CURVES and code[2:] == b"\0\1":
        curve = _CICP_CURVES[code[1]]
        return make_profile(None if curve is None else 1 / curve, _CICP_PRIMARIES[code[0]], grey=grey)
    profile = metadata.inflate_profile(bodies[b"iCCP"]) if b"iCCP" in bodies else None
    if profile is not None or b"sRGB" in bodies:
        return profile
    gamma = int.from_bytes(bodies[b"gAMA"][:4], "big") / 100_000 if len(bodies.get(b"gAMA", b"")) >= 4 else None
    xy = struct.unpack(">8I", bodies[b"cHRM"][:32]) if len(bodies.get(b"cHRM", b"")) >= 32 else None
    if gamma is None and xy is None:
        return None
    return make_profile(gamma, None if xy is None else tuple(value / 100_000 for value in xy), grey=grey)


def _gif(data: bytes) -> _Container:
    """Keep the header, the global palette, the first frame and the control blocks before it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    kept, parts = [data[:at]], _parts()
    while next(parts) >= 0 and (found := _GIF_BLOCK.search(data, at)) is not None and found[0] == b"!":
        at = _skip_blocks(data, found.start() + 2)
        if at > _MAX_HEAD:
            raise Unreadable(f"a GIF with more than {_MAX_HEAD:,} bytes before its first frame")
        if data[found.start() + 1] == 0xF9:
            kept.append(data[found.start() : at])
    if found is None or found[0] == b";":
        raise Unreadable("a GIF without a frame") if found is not None else EOFError(EARLY)
    at = found.start()
    left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
    end = at + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    try:
        end = _skip_blocks(data, end)
    except IndexError:  # the decoder knows whether rows are missing
        end = len(data)
    kept += [data[at:end], b";"]
    size = max(width, left + w), max(height, top + h)
    if 0 in size:
        raise Unreadable("a GIF without a pixel")
    return _Container("GIF", b"".join(kept), animated=_has_frame(data, end), size=size)


def _has_frame(data: bytes, at: int) -> bool:
    """Whether a frame begins at `at` or after the few extensions that begin there."""
    try:
        for _ in range(1000):
            if data[at : at + 1] != b"!":
                break
            at = _skip_blocks(data, at + 2)
    except IndexError:
        return False
    return data[at : at + 1] == b","


def _skip_blocks(data: bytes, at: int) -> int:
    for _ in range(_MAX_BLOCKS):
        size = data[at]
        at += size + 1
        if not size:
            return at
    raise Unreadable(f"a GIF of more than {_MAX_BLOCKS:,} blocks")


def _webp(data: bytes) -> _Container:
    """Find size, orientation and number of frames; Pillow takes the canvas's memory as soon as it opens the file."""
    tag, frames, at, parts, flags = data[12:16], 0, 12, _parts(), 0
    notes: dict[bytes, bytes] = {}
    if tag == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        flags = data[20]
    elif tag == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    while next(parts) >= 0 and at + 8 <= len(data):
        tag, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        frames += tag == b"ANMF"
        if flags & _WEBP_NOTES.get(tag, 0) and tag not in notes:  # libwebp, too, asks the header first
            notes[tag] = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    orientation = metadata.find_orientation(metadata.read_orientation(notes.get(b"EXIF", b"")), notes.get(b"XMP ", b""))
    return _Container("WebP", data, orientation, frames > 1, size=(width, height), profile=notes.get(b"ICCP"))


def _bmp(data: bytes) -> _Container:
    """Find what Pillow leaves out, and an embedded profile (version 5 of the header); rows of runs are a kind of their own."""
    (header,) = struct.unpack_from("<I", data, 14)
    bits = struct.unpack_from("<H", data, 24 if header == 12 else 28)[0]
    method, colours = struct.unpack_from("<I12xI", data, 30) if header >= 40 else (0, 0)
    if header == 64 and method in (3, 4):  # OS/2 counts its encodings in its own way
        raise Unreadable("a BMP in an encoding of OS/2")
    if method in _BMP_NAMES:
        raise Unreadable(f"a BMP with {_BMP_NAMES[method]}")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise Unreadable(f"a BMP of {bits} bits a pixel")
    if bits <= 8 and colours > 2**bits:
        raise Unreadable(f"a BMP of {bits} bits a pixel with {colours} colours")
    profile = None
    if header == 124 and data[70:74] == b"DEBM":
        start, size = struct.unpack_from("<II", data, 126)
        profile = data[14 + start : 14 + start + min(size, MAX_PROFILE)]
    return _Container("BMP of runs" if method in (1, 2) else "BMP", data, profile=profile)


def _tiff(data: bytes) -> _Container:
    """Rewrite the first directory in place, with the tags that decide pixels only; no offset moves."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    count_code, entry, offset_code, head = ("Q", "HHQ8s", "Q", 8) if big else ("H", "HHI4s", "I", 4)
    (start,) = struct.unpack_from(order + offset_code, data, head)
    (count,) = struct.unpack_from(order + count_code, data, start)
    first, step = start + struct.calcsize(order + count_code), struct.calcsize(order + entry)
    # a table that ends the file may lack the place of the next one
    last = first + step * count
    following = int.from_bytes(data[last : last + struct.calcsize(offset_code)], "little" if order == "<" else "big")
    kept, orientation, total = [], None, 0
    notes: dict[int, bytes] = {}
    for i in range(count):
        tag, kind, number, field = struct.unpack_from(order + entry, data, first + step * i)
        if tag == _ORIENTATION and orientation is None:
            orientation = metadata.read_number(data, first + step * (i + 1) - len(field), kind, order)
        if tag in (_XMP, _PROFILE) and kind in _TIFF_BYTES and len(field) < number <= MAX_PROFILE:
            (place,) = struct.unpack(order + offset_code, field)
            notes[tag] = data[place : place + number]
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
    orientation = metadata.find_orientation(orientation, notes.get(_XMP, b""))
    more = 0 < following < len(data) and following != start
    return _Container("TIFF", bytes(out), orientation, more, profile=notes.get(_PROFILE))


_WALKERS: dict[str, Callable[[bytes], _Container]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
}
