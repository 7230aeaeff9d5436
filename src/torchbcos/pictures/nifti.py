"""NIfTI volumes: the header is judged before memory is taken, and every volume is turned to one orientation.

Axes of the result: D grows to the head, H to the back, W to the patient's left ("SPL"). So a slice is drawn as radiologists
look at it, and as axial DICOM is stored: the front is up, and the patient's left is on the right of the picture. The format:
https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

import gzip
import io
import math
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos.pictures.dicom import open_regular, quiet
from torchbcos.pictures.npy import MAX_NUMBERS
from torchbcos.pictures.samples import SLACK, Range, range_note, range_words
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.spoiled import flat_note

__all__ = ["is_nifti", "read_nifti"]

_ENDS = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"
_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}  # bytes of a header, and who reads it
_MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}  # where the bytes stand that say "one file"
_MOST_CHANNELS = 16
_MOST_BYTES = 2**30  # of the numbers of one file
_MOST_BETWEEN = 2**26  # bytes between the header and the numbers: what programs add
_PIECE = 2**20
_LOOKED = 2**18  # numbers that are looked at
_NOT_READ = {  # by the code in the header
    128: "colours (RGB)", 2304: "colours (RGB)", 32: "complex numbers", 1792: "complex numbers", 1536: "floats of 128 bits",
}  # fmt: skip
_ORIENTATION = "SPL"
_TO_LPS = ((0, -1), (1, -1), (2, 1))  # of axes that grow to the right, the front and the head


class _Head(NamedTuple):
    """What a header says: the shape, of its first axis the fastest, the kind of numbers, and where they begin."""

    header: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begin: int


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as NIfTI files are.

    >>> is_nifti("brain.NII.gz"), is_nifti("a.nii.txt")
    (True, False)
    """
    return os.fspath(path).lower().endswith(_ENDS)


def read_nifti(path: str | os.PathLike[str], *, axes: int | None, limits: Range | None) -> Scan:
    """A NIfTI file: a volume, or a picture if one slice is all it holds; a fourth axis of up to 16 is the channels.

    Args:
        path: of the file.
        axes: 2 asks for a picture, 3 for a volume; None takes what is there.
        limits: the values that become 0 and 1; None: the file's window, bytes as 0 to 255, or numbers in [0, 1].

    Raises:
        MissingPackageError, MissingFileError, InputError: it cannot be read, or nothing says which value is black.
    """
    name = quote(path)
    nibabel = require("nibabel", extra="medical", why="Reading NIfTI")
    with quiet(name, "NIfTI file"):
        head, stored = _read(nibabel, path, name)
        slope, intercept = _scale(head.header)
        oriented, spacing, known = _turned(nibabel, head, stored)
        values = oriented.astype(np.float64) * slope + intercept if (slope, intercept) != (1.0, 0.0) else oriented
        flat = 1 in oriented.shape[1:]
        if axes == 2 and not flat:
            raise InputError(f"{name} holds {oriented.shape[1]} slices, and a picture is wanted: use a network for volumes.")
        if axes == 3 and flat:
            raise InputError(f"{name} holds one slice, and a volume is wanted.")
        notes = [] if known else ["The file does not say how it is oriented: its axes are taken as they are stored."]
        low, high, source = _window(head, values, (slope, intercept), limits, name)
        pixels, empty = _shades(values, low, high, name)
        if empty:
            notes.append(f"{empty} of its {pixels.size} numbers are NaN: they are black.")
        notes += _spoiled(values, limits)
    facts: dict[str, Any] = {
        "format": "nifti", "window": [low, high], "window_from": source, "function": "RANGE", "unit": None,
        "spacing": spacing, "orientation": _ORIENTATION if known else None,
    }  # fmt: skip
    if flat:
        pixels, facts = _one_slice(pixels, facts)
    else:
        facts["slices"] = pixels.shape[1]
    if len(pixels) > 1:
        facts["channels"] = len(pixels)
    if notes:
        facts["notes"] = notes
    return Scan(pixels=torch.from_numpy(np.ascontiguousarray(pixels)), facts=facts)


def _read(nibabel: Any, path: str | os.PathLike[str], name: str) -> tuple[_Head, NDArray[Any]]:
    """The header, and the numbers as they are stored; of a compressed file no more is unpacked than its header speaks of."""
    file, _ = open_regular(path, name)
    with file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
        head = _head(nibabel, plain, name)
        count, between = math.prod(head.shape), head.begin
        while between > 0:
            if not (piece := plain.read(min(between, _PIECE))):
                break
            between -= len(piece)
        raw = _exactly(plain, count * head.dtype.itemsize, name)
        plain.read(1)  # of a compressed file that ends here, its checksum is compared now
    return head, np.frombuffer(raw, head.dtype).reshape(head.shape, order="F")


def _exactly(file: Any, size: int, name: str) -> bytearray:
    """So many bytes, taken in pieces: a header may speak of far more than there is."""
    found = bytearray()
    while len(found) < size:
        piece = file.read(min(size - len(found), 16 * _PIECE))
        if not piece:
            raise InputError(f"{name} ends early: {size - len(found):,} bytes of its numbers are missing. Copy it again.")
        found += piece
    return found


def _head(nibabel: Any, file: Any, name: str) -> _Head:
    """The header, judged; the file stands behind it afterwards."""
    raw = file.read(4)
    order = next((order for order in ("little", "big") if int.from_bytes(raw, order) in _SIZES), None)  # type: ignore[arg-type]
    if order is None:
        raise InputError(f"{name} is no NIfTI file: it should begin with the size of its header, 348 or 540.")
    size = int.from_bytes(raw, order)  # type: ignore[arg-type]
    raw += file.read(size - 4)
    place, magic = _MAGIC[size]
    if raw[place : place + 4] != magic:
        pair = raw[place : place + 2] == b"ni"
        raise InputError(
            f"{name} is the header of a pair of files (.hdr and .img): convert it to one .nii file."
            if pair
            else f"{name} is no NIfTI file: its header lacks the mark of one."
        )
    header = getattr(nibabel, _SIZES[size]).from_fileobj(io.BytesIO(raw), check=False)
    shape = tuple(int(side) for side in header["dim"][1 : 1 + int(header["dim"][0])]) if 1 <= header["dim"][0] <= 7 else ()
    begin = float(header["vox_offset"])
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(f"{name} has the shape {shorten(str(shape), 80)}: no picture and no volume.")
    try:
        dtype = np.dtype(header.get_data_dtype())
    except Exception:
        raise InputError(f"{name} holds numbers of an unknown kind, {int(header['datatype'])}.") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        what = _NOT_READ.get(int(header["datatype"]), "numbers of an odd kind")
        raise InputError(f"{name} holds {what}, which is not read; supported: integers and floats of 8 to 64 bits.")
    count = math.prod(shape)
    if count > MAX_NUMBERS or count * dtype.itemsize > _MOST_BYTES:
        raise InputError(
            f"{name} has {shorten(f'{count:,}', 40)} numbers, more than the {MAX_NUMBERS:,} or a gigabyte that are read."
        )
    if not (math.isfinite(begin) and 0 <= begin <= _MOST_BETWEEN):
        raise InputError(f"{name} says that its numbers begin at byte {begin:g}: no sound file does.")
    return _Head(header, _squeezed(shape, name), dtype, max(0, int(begin) - size))


def _squeezed(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """(X, Y, Z, C), C being 1 mostly."""
    space, more = (*shape[:3], 1)[:3], [side for side in shape[3:] if side > 1]
    if len(more) > 1 or (more and more[0] > _MOST_CHANNELS):
        raise InputError(
            f"{name} has the shape {shape}: a volume over time, say. Up to {_MOST_CHANNELS} volumes are "
            "read as channels: save one."
        )
    return (*space, more[0] if more else 1)


def _scale(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or one that is no number means none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        return 1.0, 0.0
    return slope, intercept


def _turned(nibabel: Any, head: _Head, stored: NDArray[Any]) -> tuple[NDArray[Any], list[float | None], bool]:
    """(C, D, H, W) in the orientation "SPL", its spacing, and whether the file says how it is oriented."""
    header, orient = head.header, nibabel.orientations
    known = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    affine = header.get_best_affine()
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) if known else np.abs(np.asarray(header["pixdim"][1:4], float))
    if known:
        known = bool(np.isfinite(affine).all()) and not np.isnan(orient.io_orientation(affine)).any()
    ways = orient.io_orientation(affine) if known else np.array([[0, -1], [1, -1], [2, 1]])
    # from the right, the front, the head to the left, the back, the head
    turn = np.array([[axis, way * _TO_LPS[int(axis)][1]] for axis, way in ways]) if known else np.array([[0, 1], [1, 1], [2, 1]])
    turned = orient.apply_orientation(stored, turn)  # (X, Y, Z, C)
    places = [int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in (2, 1, 0)]
    spacing = [float(lengths[i]) if math.isfinite(lengths[i]) and lengths[i] > 0 else None for i in places]
    return turned.transpose(3, 2, 1, 0), spacing, known


def _window(
    head: _Head, values: NDArray[Any], scale: tuple[float, float], limits: Range | None, name: str
) -> tuple[float, float, str]:
    """The values that become 0 and 1, and who says so; never the least and the greatest of the file itself."""
    if limits is not None:
        return *limits, "caller"
    low, high = float(head.header["cal_min"]), float(head.header["cal_max"])
    if math.isfinite(low) and math.isfinite(high) and low < high:
        return low, high, "file"
    if head.dtype == np.uint8 and scale == (1.0, 0.0):
        return 0.0, 255.0, "stored bits"
    sound = values[np.isfinite(values)]
    first, last = (float(sound.min()), float(sound.max())) if sound.size else (0.0, 0.0)
    if (head.dtype.kind == "f" or scale != (1.0, 0.0)) and first >= -SLACK and last <= 1 + SLACK:
        return 0.0, 1.0, "stored bits"
    raise InputError(
        f"{name} holds numbers from {first:g} to {last:g} and states no window: say which become black and white, for all files "
        f"alike, with {range_words(first, last if last > first else first + 1)}, say."
    )


def _shades(values: NDArray[Any], low: float, high: float, name: str) -> tuple[NDArray[np.float32], int]:
    """Shades in [0, 1], and how many numbers were NaN, which is how the outside of a brain is often filled."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise InputError(f"{name} holds infinity.")
    found = np.empty(values.shape, np.float32)
    empty = 0
    for channel in range(values.shape[0]):
        for place in range(values.shape[1]):  # a slice at a time: float64 of all would take eight bytes a number
            one = values[channel, place].astype(np.float64)
            nan = np.isnan(one)
            empty += int(nan.sum())
            one[nan] = low
            found[channel, place] = np.clip((one - low) / (high - low), 0, 1)
    return found, empty


def _spoiled(values: NDArray[Any], limits: Range | None) -> list[str]:
    """Notes on slices of one number, and on numbers outside a range that was said."""
    flat = [bool((volume := values[:, i]).min() == volume.max()) for i in range(values.shape[1])]
    step = max(1, values.size // _LOOKED) | 1
    cut = range_note(values.ravel()[::step], "It", limits) if limits is not None else None
    return [*flat_note(flat), *([] if cut is None else [cut])]


def _one_slice(pixels: NDArray[np.float32], facts: dict[str, Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A picture (C, H, W) of a volume of one slice; of a sagittal or coronal one the head is up."""
    axis = pixels.shape[1:].index(1)
    rest = [i for i in range(3) if i != axis]
    picture = pixels.squeeze(axis + 1)
    letters = facts["orientation"]
    if axis and letters:
        picture = picture[:, ::-1]
        letters = "I" + letters[1:]
    kept = "".join(letters[i] for i in rest) if letters else None
    return picture, {**facts, "spacing": [facts["spacing"][i] for i in rest], "orientation": kept}
