"""One plane of a scan: what its file says of that plane alone, and its shades.

A plane is a file of a series, or a frame of a file with several; such files keep what differs between frames in groups of
their own (DICOM PS3.3 C.7.6.16), and what all share in another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchbcos._core.errors import InputError
from torchbcos.pictures.dicom import bits_of
from torchbcos.pictures.voi import FUNCTIONS, Rescale, Table, Window, as_numbers

__all__ = ["Plane", "colours_of", "palette_of", "range_of", "shades_of", "values_of", "windows_of"]

_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence", "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence", "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence", "RescaleType": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence", "WindowWidth": "FrameVOILUTSequence", "VOILUTFunction": "FrameVOILUTSequence",
}  # fmt: skip
_MOST_WINDOWS = 8
_FARTHEST = 1e30  # of a number in a header: products of two stay finite
# What a unit may be called; other words may be anything that somebody typed
_UNITS = (
    "HU",
    "HU_MOD",
    "OD",
    "MGML",
    "PCT",
    "Z_EFF",
    "ED",
    "EDW",
    "BQML",
    "CNTS",
    "CPS",
    "GML",
    "PCNT",
    "CM2",
    "GY",
    "RELATIVE",
)
_CT = "CT"


@dataclass(frozen=True)
class Plane:
    """A frame of a file.

    Attributes:
        header: of the file, as pydicom's Dataset.
        frame: its place in the file, from 0.
        path: of the file.
        name: of the file, as messages call it.
    """

    header: Any
    frame: int
    path: str
    name: str

    def get(self, keyword: str) -> Any:
        """An element of this frame: of its own group, of the group that all frames share, or of the file."""
        sequence = _GROUPS.get(keyword)
        if sequence is not None:
            own, shared = (self.header.get(f"{kind}FunctionalGroupsSequence") or () for kind in ("PerFrame", "Shared"))
            for group in (*own[self.frame : self.frame + 1], *shared[:1]):
                items = group.get(sequence)
                if items and items[0].get(keyword) is not None:
                    return items[0].get(keyword)
        return self.header.get(keyword)

    def numbers(self, keyword: str, count: int | None = None) -> list[float]:
        """The numbers of an element; none where it is absent, holds another count, or something that is no number."""
        try:
            found = as_numbers(self.get(keyword))
        except (TypeError, ValueError, OverflowError):
            return []
        sound = all(math.isfinite(one) and abs(one) < _FARTHEST for one in found) and count in (None, len(found))
        return found if sound else []

    @property
    def inverted(self) -> bool:
        """Whether the lowest value is meant to be white."""
        return bool(self.header.get("PhotometricInterpretation") == "MONOCHROME1")

    @property
    def unit(self) -> str | None:
        """What the values are measured in, where the standard has a word for it."""
        said = self.get("RescaleType") or self.header.get("Units") or self.header.get("DoseUnits")
        if said is None and self.header.get("Modality") == _CT and self.numbers("RescaleIntercept"):
            return "HU"
        return str(said) if said in _UNITS else None


def values_of(plane: Plane) -> Rescale | Table:
    """How stored numbers become the modality's values.

    Raises:
        InputError: what the file says of it cannot be read.
    """
    items = plane.header.get("ModalityLUTSequence")
    if items:
        return _table(items[0], plane)
    slope, intercept = plane.numbers("RescaleSlope", 1), plane.numbers("RescaleIntercept", 1)
    dose = plane.numbers("DoseGridScaling", 1)
    given = [plane.get(key) not in (None, "") for key in ("RescaleSlope", "RescaleIntercept")]
    if (given[0] and not slope) or (given[1] and not intercept) or slope == [0.0]:
        raise InputError(f"{plane.name} has a rescale slope or intercept that is no number to use.")
    return Rescale((slope or dose or [1.0])[0], (intercept or [0.0])[0])


def windows_of(plane: Plane) -> list[Window]:
    """The windows that a file states, the first one first: its table, if there is one, before all numbers.

    Raises:
        InputError: a table or a function that cannot be read.
    """
    tables = plane.header.get("VOILUTSequence") or []
    found = [Window.of_table(_table(item, plane)) for item in tables[:1]]
    function = str(plane.get("VOILUTFunction") or FUNCTIONS[0])
    if function not in FUNCTIONS:
        raise InputError(f"{plane.name} has a window of an unknown function; supported: {', '.join(FUNCTIONS)}. Say a range.")
    pairs = zip(plane.numbers("WindowCenter"), plane.numbers("WindowWidth"), strict=False)
    for centre, width in pairs:
        exact = function == "LINEAR" and 0 < width < 1  # no window by the standard, but files of small numbers have it
        if width > 0:
            found.append(Window.of_file(centre, width, "LINEAR_EXACT" if exact else function))
    return found[:_MOST_WINDOWS]


def range_of(plane: Plane) -> Window | None:
    """All values that the stored bits can hold, as a window; None for floats, which have no such range."""
    if _of_floats(plane):
        return None
    values = values_of(plane)
    if isinstance(values, Table):
        return Window(low=0.0, high=values.top, source="stored bits")
    _, bits, _ = bits_of(plane.header, plane.name)
    signed = plane.header.get("PixelRepresentation", 0) == 1
    first = -(2.0 ** (bits - 1)) if signed else 0.0
    ends = sorted((values(np.array([first, first + 2.0**bits - 1]))).tolist())
    return Window(low=ends[0], high=ends[1], source="stored bits")


def _of_floats(plane: Plane) -> bool:
    """Whether the pixels are floats, for which these two elements must be absent."""
    return "BitsStored" not in plane.header and "PixelRepresentation" not in plane.header


def shades_of(stored: NDArray[Any], plane: Plane, window: Window) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Shades (H, W) in [0, 1] of stored numbers, and the values that are no padding; padding is black.

    NaN, which only files of floats hold, is black too.
    """
    values = values_of(plane)(stored.astype(np.float64))
    shades = window(values)
    shades = 1 - shades if plane.inverted else shades
    empty = _padding(stored, plane) | np.isnan(values)
    shades[empty] = 0
    return shades.astype(np.float32), values[~empty]


def _padding(stored: NDArray[Any], plane: Plane) -> NDArray[np.bool_]:
    """Which numbers only fill the rectangle (PS3.3 C.7.5.1.1.2)."""
    ends = plane.numbers("PixelPaddingValue", 1) + plane.numbers("PixelPaddingRangeLimit", 1)
    if not ends or _of_floats(plane):
        return np.zeros(stored.shape, bool)
    allocated, _, _ = bits_of(plane.header, plane.name)
    half = 2 ** (allocated - 1) if plane.header.get("PixelRepresentation", 0) == 1 else 0
    # some files say a negative number without its sign, and others the other way round
    whole = [(int(end) + half) % 2**allocated - half for end in ends]
    return np.asarray((stored >= min(whole)) & (stored <= max(whole)))


def colours_of(stored: NDArray[Any], plane: Plane, window: Window) -> NDArray[np.float32]:
    """RGB (3, H, W) in [0, 1] of stored numbers: (H, W, 3), or the places of a palette (H, W)."""
    if stored.ndim == 2:
        tables = palette_of(plane)
        numbers = stored.astype(np.float64)
        mapped = np.stack([table(numbers) for table in tables])
    else:
        mapped = np.moveaxis(stored.astype(np.float64), -1, 0)
    return window(mapped).astype(np.float32)


def palette_of(plane: Plane) -> list[Table]:
    """The tables of red, green and blue of a palette.

    Raises:
        InputError: one is missing, or is given in segments.
    """
    found = []
    for colour in ("Red", "Green", "Blue"):
        words, data = (plane.get(f"{colour}PaletteColorLookupTable{part}") for part in ("Descriptor", "Data"))
        if words is None or data is None:
            raise InputError(f"{plane.name} has no palette, or one in segments, which is not read: save it as RGB.")
        found.append(_entries(words, data, plane))
    return found


def _table(item: Any, plane: Plane) -> Table:
    """The table of an item of a sequence."""
    words, data = item.get("LUTDescriptor"), item.get("LUTData")
    if words is None or data is None:
        raise InputError(f"{plane.name} has a table of values without its entries.")
    return _entries(words, data, plane)


def _entries(words: Any, data: Any, plane: Plane) -> Table:
    """A table from its descriptor (entries, first input, bits) and its data, which come in four ways."""
    try:
        count, first, bits = (int(word) for word in words)
    except (TypeError, ValueError):
        raise InputError(f"{plane.name} has a table of values with a broken descriptor.") from None
    count = (count % 2**16) or 2**16
    raw = data if isinstance(data, bytes) else np.atleast_1d(np.asarray(data)).astype(np.int64).astype("<u2").tobytes()
    order = ">" if isinstance(data, bytes) and not plane.header.file_meta.TransferSyntaxUID.is_little_endian else "<"
    each = 1 if bits <= 8 and len(raw) in (count, count + 1) else 2
    found = np.frombuffer(raw[: count * each], f"{order}u{each}").astype(np.float64)
    if len(found) < count or not 8 <= bits <= 16 or bits == 9:
        raise InputError(f"{plane.name} has a table of {len(found)} of {count} values, of {bits} bits.")
    if found.max() >= 2**bits:
        # palettes of 8 bits in 16: the upper byte, or the whole word, is meant; PS3.3 C.7.6.3.1.6
        bits = 16
    return Table(first, found, bits)
