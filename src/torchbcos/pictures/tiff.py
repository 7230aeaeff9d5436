"""TIFF: what its tags say of the pixels, which layouts are read, and the sentence that names any other.

TIFF 6.0 (Adobe, 1992) with its supplements. `layout_of` refuses every combination of photometric interpretation, sample format,
bits, samples, planes, compression, predictor and fill order that is not known to be read right; `tiff_pixels` reads the rest.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from PIL.TiffImagePlugin import TiffImageFile

from torchbcos._core.errors import InputError

__all__ = ["Layout", "check_opened", "layout_of", "read_tags", "sizes_in"]

_Tags = Mapping[int, tuple[float, ...]]

# type -> (struct code, numbers an item); text and what nobody uses for pixels are left out
_TYPES = {1: ("B", 1), 3: ("H", 1), 4: ("I", 1), 5: ("I", 2), 6: ("b", 1), 8: ("h", 1), 9: ("i", 1), 13: ("I", 1), 16: ("Q", 1),
          17: ("q", 1), 18: ("Q", 1)}  # fmt: skip
_PHOTOMETRIC = {
    0: "grey (white is zero)", 1: "grey", 2: "RGB", 3: "a palette", 4: "a transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab",
    9: "ICC Lab", 10: "ITU Lab", 32803: "a colour filter array (raw)", 32844: "CIE Log2(L)", 32845: "CIE Log2(L) (u', v')",
    34892: "linear raw data", 51177: "depth",
}  # fmt: skip
_COMPRESSION = {
    1: "none", 2: "CCITT run lengths", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "JPEG of the old style", 7: "JPEG",
    8: "deflate", 9: "JBIG", 10: "JBIG", 22610: "JPEG XR", 32766: "NeXT", 32771: "CCITT run lengths of words", 32773: "PackBits",
    32809: "ThunderScan", 32946: "deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG", 34925: "LZMA", 34933: "PNG",
    34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_BYTES = (1, 5, 8, 32773, 32946, 34925, 50000)  # what comes out is the bytes of samples
_FAX, _JPEG, _OLD_JPEG = (2, 3, 4), 7, 6
_TAGS = (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 332, 338, 339, 529, 530, 532)
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_KINDS = {1: "u", 2: "i", 3: "f"}
_NAMES = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floats",
    4: "undefined data",
    5: "complex integers",
    6: "complex floats",
}
_BITS = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
_INSTEAD = "Save it anew as RGB or grey, unsigned integers of 8 or 16 bits, without compression or with LZW or deflate."
_MOST_ITEMS = 2**20  # of a tag: offsets of tiles of 16 x 16 pixels take a third, and each costs forty bytes here
_LARGEST = 2**30  # bytes that are unpacked of one picture
_LARGEST_BLOCK = 2**28  # of one strip or tile: it is in memory twice


@dataclass(frozen=True)
class Layout:
    """How the pixels of a TIFF's first picture are stored.

    Attributes:
        width, height: of the picture, in pixels.
        photometric: the tag: 0, 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIE Lab.
        kind, bits: of a sample: "u", "i" or "f".
        samples: a pixel; `colours` of them are colours.
        extra: what the others are: 0 unknown, 1 premultiplied alpha, 2 alpha.
        planar: 1: the samples of a pixel lie together; 2: a plane each.
        order: "<" or ">".
        compression, predictor, fill: the tags.
        block: (width, height) of a strip or tile.
        tiled: tiles, not strips.
        offsets, counts: of the strips or tiles, in bytes; counts may be missing.
        palette: 3 * 2^bits numbers of 16 bits.
    """

    width: int
    height: int
    photometric: int
    kind: str
    bits: int
    samples: int
    extra: tuple[int, ...]
    planar: int
    order: str
    compression: int
    predictor: int
    fill: int
    block: tuple[int, int]
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    palette: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def colours(self) -> int:
        """Samples of a pixel that are colours."""
        return _COLOURS[self.photometric]

    @property
    def alpha(self) -> int | None:
        """Which sample is alpha, if any."""
        found = [self.colours + i for i, what in enumerate(self.extra) if what in (1, 2)]
        return found[0] if found else None

    @property
    def premultiplied(self) -> bool:
        """Whether the colours are multiplied with alpha."""
        return 1 in self.extra

    @property
    def across(self) -> int:
        """Strips or tiles side by side."""
        return math.ceil(self.width / self.block[0])

    @property
    def down(self) -> int:
        """Strips or tiles one above the other."""
        return math.ceil(self.height / self.block[1])

    @property
    def planes(self) -> int:
        """How many times the picture is stored, for one sample each or for all."""
        return self.samples if self.planar == 2 else 1

    @property
    def row_bytes(self) -> int:
        """Of one row of a strip or tile."""
        return (self.block[0] * self.bits * (1 if self.planar == 2 else self.samples) + 7) // 8

    @property
    def by_pillow(self) -> bool:
        """Whether Pillow's decoder makes pixels of it: JPEG and fax."""
        return self.compression not in _BYTES


def read_tags(data: bytes) -> tuple[str, dict[int, tuple[float, ...]]]:
    """The byte order ("<" or ">") and the numbers in the first directory; rationals are divided.

    Raises:
        ValueError, EOFError, struct.error: the structure is broken; the caller names the file.
    """
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    head, entry, offset, count = (8, "HHQ8s", "Q", "Q") if big else (4, "HHI4s", "I", "H")
    (start,) = struct.unpack_from(order + offset, data, head)
    (number,) = struct.unpack_from(order + count, data, start)
    start, step = start + struct.calcsize(order + count), struct.calcsize(order + entry)
    tags: dict[int, tuple[float, ...]] = {}
    for i in range(number):
        tag, kind, items, field = struct.unpack_from(order + entry, data, start + i * step)
        if kind not in _TYPES:
            continue
        code, each = _TYPES[kind]
        if items > _MOST_ITEMS:
            raise ValueError(f"its tag {tag} holds {items:,} numbers, more than the {_MOST_ITEMS:,} that are read")
        size = items * each * struct.calcsize(order + code)
        if size > len(field):
            (place,) = struct.unpack(order + offset, field)
            field = data[place : place + size]
            if len(field) < size:
                raise EOFError("it ends early")
        values: tuple[float, ...] = struct.unpack(f"{order}{items * each}{code}", field[:size])
        if each == 2:
            values = tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True))
        if tags.setdefault(tag, values) != values:
            raise ValueError(f"its tag {tag} is there twice, with two values")
    return order, tags


def sizes_in(tags: _Tags) -> list[tuple[int, int]]:
    """(width, height) of the picture and of a tile, as far as they are said: to be judged before anything else.

    >>> sizes_in({256: (640,), 257: (480,)})
    [(640, 480), (0, 0)]
    """
    return [(int(tags.get(w, (0,))[0]), int(tags.get(h, (0,))[0])) for w, h in ((256, 257), (322, 323))]


def layout_of(order: str, tags: _Tags, name: str) -> Layout:
    """The layout that the tags of a file describe.

    Raises:
        InputError: it is none that is read; the message says what it is, and what to do.
        ValueError: the tags contradict each other.
    """
    layout = _described(order, tags, name)
    _check_kind(layout, name)
    if layout.compression in _BYTES:
        _check_bytes(layout, tags, name)
    else:
        _check_pillows(layout, name)
    needed = layout.planes * layout.across * layout.down
    if layout.compression != _OLD_JPEG and len(layout.offsets) < needed:
        raise ValueError(f"it has {len(layout.offsets)} strips or tiles, and {needed} make the picture")
    return layout


def check_opened(image: TiffImageFile, name: str) -> None:
    """Refuse a TIFF that the caller opened with Pillow, if Pillow misreads its layout: 32 bits wrap, planes are mixed, …

    Raises:
        InputError: so it is; the message names the way that works.
    """
    tags = {tag: image.tag_v2[tag] for tag in _TAGS if tag in image.tag_v2}
    numbers = {tag: tuple(map(float, value)) if isinstance(value, tuple) else (float(value),) for tag, value in tags.items()}
    layout = layout_of("<" if image.tag_v2.prefix == b"II" else ">", numbers, name)
    plain = layout.photometric in (1, 2, 5) and not layout.premultiplied
    known = {"u": layout.bits <= 8 or (layout.bits == 16 and plain), "i": layout.bits in (16, 32), "f": layout.bits == 32}
    if layout.kind != "u":
        known[layout.kind] &= layout.photometric == 1 and not layout.extra
    if not known[layout.kind] or layout.fill != 1 or (layout.planar == 2 and layout.samples > 1):
        what = f"{_PHOTOMETRIC[layout.photometric]} of {layout.bits} bits" + (" in planes" if layout.planar == 2 else "")
        raise InputError(f"{name} was opened by Pillow, which misreads such a TIFF ({what}): give the path of the file instead.")


def _described(order: str, tags: _Tags, name: str) -> Layout:
    """What the tags say, with TIFF's own defaults; of what must be said nothing is guessed."""

    def number(tag: int, default: int) -> int:
        return int(tags.get(tag, (default,))[0])

    def many(tag: int) -> tuple[int, ...]:
        return tuple(int(value) for value in tags.get(tag, ()))

    width, height, compression = number(256, 0), number(257, 0), number(259, 1)
    if min(width, height) < 1:
        raise ValueError("it has no width or height")
    photometric = number(262, 0 if compression in _FAX else 6 if compression == _OLD_JPEG else -1)
    photometric = 6 if compression == _OLD_JPEG and photometric == 2 else photometric  # which is what its JPEG holds
    if photometric not in _COLOURS:
        what = _PHOTOMETRIC.get(photometric, f"photometric interpretation {photometric}")
        raise _refused(name, "does not say what its numbers are" if photometric == -1 else f"holds {what}")
    samples = number(277, _COLOURS[photometric] if compression == _OLD_JPEG else 1)
    kinds, bits = many(339)[:samples] or (1,), many(258)[:samples] or (1,)
    if len(set(kinds)) > 1 or len(set(bits)) > 1 or kinds[0] not in _NAMES:
        raise _refused(name, f"holds samples of different kinds (formats {kinds}, bits {bits})")
    if kinds[0] not in _KINDS:
        raise _refused(name, f"holds {_NAMES[kinds[0]]}")
    tiled = 322 in tags or 324 in tags
    block = (number(322, 0), number(323, 0)) if tiled else (width, min(number(278, height) or height, height))
    if min(block) < 1:
        raise ValueError("its strips or tiles have no size")
    extra = many(338) or ((2,) if photometric == 2 and samples == 4 else ())  # an alpha that is not declared: Pillow's habit
    return Layout(
        width, height, photometric, _KINDS[kinds[0]], bits[0], samples, extra, number(284, 1), order, compression, number(317, 1),
        number(266, 1), block, tiled, many(324 if tiled else 273), many(325 if tiled else 279), many(320),
    )  # fmt: skip


def _check_kind(layout: Layout, name: str) -> None:
    """Samples, planes and fill order, whoever decodes them."""
    others = layout.samples - layout.colours
    if layout.compression not in (*_BYTES, *_FAX, _JPEG, _OLD_JPEG):
        how = _COMPRESSION.get(layout.compression)
        raise _refused(name, f"is compressed by {how or 'a method that is not known'} ({layout.compression})")
    if others < 0 or len(layout.extra) > max(others, 0):
        raise ValueError(f"it holds {layout.samples} samples a pixel, too few for {_PHOTOMETRIC[layout.photometric]}")
    alphas = sum(what in (1, 2) for what in layout.extra)
    if others > len(layout.extra) or set(layout.extra) - {0, 1, 2} or alphas > 1 or (layout.colours == 1 and others > 1):
        raise _refused(
            name, f"holds {layout.samples} samples a pixel, and {layout.colours} are {_PHOTOMETRIC[layout.photometric]}"
        )
    if layout.planar not in (1, 2) or layout.fill not in (1, 2):
        raise _refused(name, f"has planar configuration {layout.planar} and fill order {layout.fill}")


def _check_bytes(layout: Layout, tags: _Tags, name: str) -> None:
    """What is unpacked here: any bits, planes and order."""
    what, kind = _PHOTOMETRIC[layout.photometric], _NAMES[{v: k for k, v in _KINDS.items()}[layout.kind]]
    fits = {
        3: layout.kind == "u" and layout.bits <= 16,
        5: layout.kind == "u" and layout.bits in (8, 16),
        6: layout.bits == 8,
        8: layout.bits == 8,
    }
    if (
        layout.bits not in _BITS[layout.kind]
        or not fits.get(layout.photometric, True)
        or (layout.photometric in (6, 8) and layout.kind != "u")
    ):
        raise _refused(name, f"holds {what} of {layout.bits}-bit {kind}")
    if (layout.alpha is not None and layout.photometric in (5, 6, 8)) or (layout.premultiplied and layout.photometric == 3):
        raise _refused(name, f"holds {what} with alpha")
    if layout.photometric == 3 and len(layout.palette) != 3 * 2**layout.bits:
        raise ValueError("its palette has the wrong length")
    if tags.get(332, (1,))[0] != 1:
        raise _refused(name, "holds inks that are not CMYK")
    whole = layout.bits % 8 == 0
    if layout.predictor != 1:
        fine = {2: whole, 3: layout.kind == "f"}.get(layout.predictor, False) and layout.compression != 1
        if not fine:
            raise _refused(
                name,
                f"has predictor {layout.predictor} for {layout.bits}-bit {kind}, compression {_COMPRESSION[layout.compression]}",
            )
    if layout.photometric == 6:
        _check_ycbcr(layout, tags, name)
    if layout.tiled and not whole and layout.block[0] * layout.bits % 8:
        raise _refused(name, f"has tiles whose rows end within a byte ({layout.block[0]} pixels of {layout.bits} bits)")
    each = layout.row_bytes * layout.block[1]
    if each > _LARGEST_BLOCK:
        raise _refused(name, f"has strips or tiles of {each:,} bytes, and at most {_LARGEST_BLOCK:,} are unpacked at once")
    total = each * layout.across * layout.down * layout.planes
    if total > _LARGEST:
        raise _refused(name, f"has {total:,} bytes of pixels, and at most {_LARGEST:,} are unpacked")


def _check_ycbcr(layout: Layout, tags: _Tags, name: str) -> None:
    """A colour for every pixel, and Rec. 601's coefficients over the full range: what Pillow converts."""
    standard = {529: (0.299, 0.587, 0.114), 532: (0, 255, 128, 255, 128, 255)}
    odd = any(
        tag in tags and not all(abs(a - b) < 1e-3 for a, b in zip(tags[tag], wanted, strict=False))
        for tag, wanted in standard.items()
    )
    if tags.get(530, (2, 2)) != (1, 1) or odd or layout.extra:
        raise _refused(name, "holds YCbCr with fewer colours than pixels, or with coefficients of its own")


def _check_pillows(layout: Layout, name: str) -> None:
    """What Pillow's decoder is trusted with: fax and JPEG. It reads WebP with some builds of libtiff only."""
    how, what = _COMPRESSION[layout.compression], _PHOTOMETRIC[layout.photometric]
    good = layout.kind == "u" and layout.predictor == 1
    if layout.compression in _FAX:
        good &= layout.bits == 1 and layout.samples == 1 and layout.photometric in (0, 1)
    else:
        known: dict[int, list[tuple[int, ...]]]
        known = {1: [(), (2,)], 2: [(), (2,)], 5: [()], 6: [()]} if layout.compression == _JPEG else {1: [()], 6: [()]}
        good &= layout.bits == 8 and layout.fill == 1 and (layout.planar == 1 or layout.samples == 1)
        good &= layout.extra in known.get(layout.photometric, [])
    if not good:
        planes = ", in planes" if layout.planar == 2 else ""
        raise _refused(name, f"holds {what} of {layout.samples} samples of {layout.bits} bits{planes}, compressed by {how}")


def _refused(name: str, what: str) -> InputError:
    return InputError(f"{name} is a TIFF that {what}, which is not read. {_INSTEAD}")
