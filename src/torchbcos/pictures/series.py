"""DICOM as pictures and volumes: a file, or a folder that holds one series, becomes a `Scan`.

A series is looked at twice: first the headers, which say the order, the size and the window, then each file's pixels, one
file after the other.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbcos._core.errors import BcosError, InputError, MissingFileError, shorten
from torchbcos._core.names import natural_key, quote
from torchbcos.pictures.dicom import (
    COLOURS,
    bits_of,
    check_picture,
    frames_of,
    has_magic,
    open_regular,
    quiet,
    read_header,
    size_of,
)
from torchbcos.pictures.geometry import Stack, axis_letters, plane_orientation, plane_spacing, stack
from torchbcos.pictures.npy import MAX_NUMBERS
from torchbcos.pictures.planes import Plane, colours_of, palette_of, range_of, shades_of, windows_of
from torchbcos.pictures.samples import Range, range_note, range_words
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.spoiled import flat_note, scale_notes
from torchbcos.pictures.voi import Window

__all__ = ["dicom_files", "is_series", "read_dicom", "read_series"]

_MOST_FILES = 20_000  # that are looked at in a folder
_LOOKED = 12  # files of a folder that tell whether it is one scan
_FLAT = ("CR", "DX", "MG", "IO", "PX", "XC", "GM", "ES", "OP", "US", "SM", "RF")  # modalities whose files are pictures each
_LITTLE = 1 / 16  # of the range of the stored bits: a picture that uses no more looks black
_DETECTOR = 16  # bits that a detector has at most
_SAMPLE = 4096  # values of a plane that are looked at for it
_KNOWN = re.compile(r"[A-Z]{2,8}")
_LISTED = 5
_Read = tuple[NDArray[np.float32], NDArray[np.float64], list[bool]]
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OtherPatientNames", "ReferringPhysicianName")
_WORDS = ("SeriesDescription", *_PATIENT)


def read_dicom(path: str | os.PathLike[str], *, axes: int | None, limits: Range | None) -> Scan:
    """A DICOM file: a picture, or with several frames a volume.

    Args:
        path: of the file.
        axes: 2 asks for a picture, 3 for a volume; None takes what is there.
        limits: the values that become 0 and 1; None: the file's window, or the range of its stored bits.

    Raises:
        MissingPackageError, MissingFileError, InputError: it cannot be read, or is of another kind.
    """
    name = quote(path)
    with quiet(name, "DICOM file"):
        header = read_header(path, name)
        check_picture(header, name)
        count, *_ = size_of(header, name)
        planes = [Plane(header, i, os.fspath(path), name) for i in range(count)]
        if axes == 2 and count > 1:
            raise InputError(
                f"{name} holds {count} frames, and a picture is wanted: save the frame that you mean, "
                "or use a network for volumes."
            )
        if axes == 3 and count == 1:
            raise InputError(f"{name} holds one slice, and a volume is wanted: name the folder of its series.")
        placed = _single(planes[0]) if count == 1 else stack(planes, f"{name} holds")
        return _scan(placed, axes=2 if count == 1 else 3, limits=limits, name=name, skipped={})


def read_series(path: str | os.PathLike[str], *, axes: int | None, limits: Range | None) -> Scan:
    """A folder that holds one DICOM series: a volume, its slices in the order of their places.

    Args:
        path: of the folder; its subfolders are not looked at.
        axes, limits: as in `read_dicom`.

    Raises:
        MissingPackageError, MissingFileError, InputError: it holds no series, or several.
    """
    name = quote(path)
    with quiet(name, "DICOM series"):
        planes, skipped = _planes(path, name)
        if len({str(plane.header.get("SeriesInstanceUID")) for plane in planes}) > 1:
            raise InputError(_several(planes, name))
        if any(size_of(plane.header, plane.name)[0] > 1 for plane in planes):
            if len(planes) == 1:
                return read_dicom(planes[0].path, axes=axes, limits=limits)
            raise InputError(f"{name} holds files of several frames each: name one of the files.")
        _one_size(planes, name)
        if axes == 2 and len(planes) > 1:
            raise InputError(f"{name} holds a series of {len(planes)} slices, and a picture is wanted: name one of its files.")
        if len(planes) == 1 and axes == 3:
            raise InputError(f"{name} holds one slice, and a volume is wanted.")
        placed = _single(planes[0]) if len(planes) == 1 else stack(planes, f"{name} holds")
        return _scan(placed, axes=2 if len(planes) == 1 else 3, limits=limits, name=name, skipped=skipped)


def dicom_files(path: str | os.PathLike[str], most: int = _MOST_FILES) -> tuple[list[str], int]:
    """Files directly in a folder that begin as DICOM does, and how many others there are.

    Raises:
        MissingFileError, InputError: it is no folder that may be read, or holds more than `most` files.
    """
    name = quote(path)
    try:
        with os.scandir(path) as entries:
            found = [entry.path for _, entry in zip(range(most + 1), entries, strict=False) if entry.is_file()]
    except FileNotFoundError:
        raise MissingFileError(f"{name} does not exist.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be searched: {error.strerror or error}.") from error
    if len(found) > most:
        raise InputError(f"{name} holds more than {most:,} files: one series is wanted.")
    scans = [one for one in sorted(found, key=natural_key) if _begins_as_dicom(one)]
    return scans, len(found) - len(scans)


def _begins_as_dicom(path: str) -> bool:
    try:
        file, _ = open_regular(path, quote(path))
        with file:
            return has_magic(file.read(132))
    except (BcosError, OSError):
        return False


def is_series(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds slices of a scan, rather than pictures that stand for themselves.

    Slices say where they lie, or come from a scanner that makes volumes; each series has two or more of them. A folder with
    several series is one, too, so that reading it says what is wrong. A dozen files are looked at.
    """
    try:
        scans, _ = dicom_files(path)
    except BcosError:
        return False
    if len(scans) < 2:
        return False
    step = max(1, len(scans) // _LOOKED)
    try:
        kinds = [_kind_of(one) for one in (scans[0], *scans[1::step])]
    except ImportError:  # MissingPackageError: to read them will say so
        return True
    slices = [series for modality, series in kinds if modality not in (None, *_FLAT)]
    return len(slices) >= 2 * len(set(slices)) > 0


def _kind_of(path: str) -> tuple[str | None, str]:
    """The modality and the series of a file that holds a picture; no modality where it holds none, or is broken."""
    try:
        with quiet(quote(path), "DICOM file"):
            header = read_header(path, quote(path))
            return (str(header.get("Modality")) if "Rows" in header else None), str(header.get("SeriesInstanceUID"))
    except (InputError, MissingFileError):
        return None, ""


def _planes(path: str | os.PathLike[str], name: str) -> tuple[list[Plane], dict[str, int]]:
    """The pictures of a folder, a plane each, and how many other files were passed over, by kind."""
    scans, others = dicom_files(path)
    found, seen, skipped = list[Plane](), set[str](), Counter[str]()
    skipped["no DICOM"] = others
    for one in scans:
        with quiet(quote(one), "DICOM file"):
            header = read_header(one, quote(one))
            if "Rows" not in header:
                skipped["no picture"] += 1
                continue
            check_picture(header, quote(one))
            number = str(header.get("SOPInstanceUID"))
            if "SOPInstanceUID" in header and number in seen:
                skipped["copies"] += 1
                continue
            seen.add(number)
            found.append(Plane(header, 0, one, quote(one)))
    if not found:
        there = f"{len(scans)} DICOM files, none of them a picture" if scans else f"no DICOM file among its {others} files"
        raise InputError(f"{name} holds {there}. Subfolders are not looked at: name the folder of one series.")
    return found, {kind: count for kind, count in skipped.items() if count}


def _one_size(planes: Sequence[Plane], name: str) -> None:
    """Refuse planes of several sizes, and more numbers than are read."""
    sizes = Counter(size_of(plane.header, plane.name)[1:] for plane in planes)
    if len(sizes) > 1:
        said = ", ".join(f"{count} of {size[0]} × {size[1]}" for size, count in sizes.most_common(_LISTED))
        raise InputError(
            f"{name} holds slices of several sizes: {said}. Is a localiser (scout) among them? Keep those of one size."
        )
    count = len(planes) * math.prod(next(iter(sizes)))
    if count > MAX_NUMBERS:
        raise InputError(f"{name} has {count:,} numbers in {len(planes)} slices, more than the {MAX_NUMBERS:,} that are read.")


def _several(planes: Sequence[Plane], name: str) -> str:
    """What to say of a folder with several series: what each is called and how many files it has."""
    groups: dict[str, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(str(plane.header.get("SeriesInstanceUID")), []).append(plane)
    largest = sorted(groups.values(), key=len, reverse=True)
    said = [f"{_called(group[0])} (files: {len(group)})" for group in largest[:_LISTED]]
    more = f" and {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
    return f"{name} holds {len(groups)} series: {', '.join(said)}{more}. Move each into a folder of its own."


def _called(plane: Plane) -> str:
    """A series as its scanner called it, without whatever is the patient's in it."""
    with quiet(plane.name, "DICOM file"):
        header = read_header(plane.path, plane.name, also=_WORDS)
        private = {word.casefold() for key in _PATIENT for word in re.findall(r"\w+", str(header.get(key) or ""))}
        words = str(header.get("SeriesDescription") or "").split()
    shown = [word for word in words if not _tells(word, private)]
    return f"'{shorten(' '.join(shown), 40)}'" if shown else "one without a name"


def _tells(word: str, private: set[str]) -> bool:
    """Whether a word may be of the patient: a part of a name or a number, or so many digits that it may be a date."""
    parts = re.findall(r"\w+", word.casefold())
    return any(part in private for part in parts) or len(re.findall(r"\d", word)) >= 6


def _single(plane: Plane) -> Stack:
    """A picture as a stack of one."""
    directions = plane_orientation(plane)
    return Stack([plane], plane_spacing(plane), None if directions is None else axis_letters(directions))


def _scan(placed: Stack, *, axes: int, limits: Range | None, name: str, skipped: Mapping[str, int]) -> Scan:
    """Read the pixels of planes that are in their order."""
    first = placed.planes[0]
    coloured = first.header.get("PhotometricInterpretation") in COLOURS
    if len({plane.inverted for plane in placed.planes}) > 1:
        raise InputError(f"{name} holds slices of MONOCHROME1 and of MONOCHROME2: export the series again.")
    window, others, notes = _colour_window(first, limits) if coloured else _window(placed.planes, limits, name)
    pixels, seen, flat = _pixels(placed.planes, window, coloured)
    notes = [*placed.notes, *notes, *_dark(seen, window, int(first.header.get("BitsAllocated") or 0), name), *flat_note(flat)]
    notes += [] if coloured else scale_notes(placed.planes, window)
    cut = range_note(seen, "It", limits) if limits is not None and not coloured else None
    notes += [] if cut is None else [cut]
    facts: dict[str, Any] = {
        "format": "dicom",
        "window": [window.low, window.high],
        "window_from": window.source,
        "function": window.function,
        "unit": None if coloured else first.unit,
        "spacing": placed.spacing,
        "orientation": placed.orientation,
    }
    modality = str(first.header.get("Modality"))
    if _KNOWN.fullmatch(modality):
        facts["modality"] = modality
    if first.inverted:
        facts["inverted"] = True
    if axes == 3:
        facts["slices"] = len(placed.planes)
    if others:
        facts["other_windows"] = [[other.low, other.high] for other in others]
    if skipped:
        facts["skipped"] = dict(skipped)
    if notes:
        facts["notes"] = notes
    shaped = pixels if axes == 3 else pixels[:, 0]
    return Scan(pixels=torch.from_numpy(shaped), facts=facts)


def _colour_window(plane: Plane, limits: Range | None) -> tuple[Window, list[Window], list[str]]:
    """Colours have no window: they span their bits."""
    if limits is not None:
        return Window(low=limits[0], high=limits[1]), [], []
    if plane.header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return Window(low=0.0, high=palette_of(plane)[0].top, source="stored bits"), [], []
    _, bits, _ = bits_of(plane.header, plane.name)
    return Window(low=0.0, high=2.0**bits - 1, source="stored bits"), [], []


def _window(planes: Sequence[Plane], limits: Range | None, name: str) -> tuple[Window, list[Window], list[str]]:
    """The one window of all planes, the others that the file states, and what to say of it.

    The caller's comes first, then the file's; where planes state several, that of the middle one, as the ends of a scan are
    mostly air.
    """
    stated = [windows_of(plane) for plane in planes]
    middle = stated[len(stated) // 2]
    if limits is not None:
        return Window(low=limits[0], high=limits[1]), middle, []
    if middle:
        ends = {(windows[0].low, windows[0].high, windows[0].function) if windows else None for windows in stated}
        differ = ["The slices state different windows: that of the middle slice is used for all."] if len(ends) > 1 else []
        return middle[0], middle[1:], differ
    ranges = [one for plane in planes if (one := range_of(plane)) is not None]
    if not ranges:
        raise InputError(
            f"{name} holds floats and states no window: say which values become black and white, for all files alike, with "
            f"{range_words(0, 1)} say."
        )
    return Window(low=min(one.low for one in ranges), high=max(one.high for one in ranges), source="stored bits"), [], []


def _pixels(planes: Sequence[Plane], window: Window, coloured: bool) -> _Read:
    """(C, D, H, W) shades, some of the values, and of each slice whether all its values are one."""
    _, rows, columns, _ = size_of(planes[0].header, planes[0].name)
    found = np.empty((3 if coloured else 1, len(planes), rows, columns), np.float32)
    seen: list[NDArray[np.float64]] = []
    flat = [False] * len(planes)
    place = {(plane.path, plane.frame): i for i, plane in enumerate(planes)}
    for path in dict.fromkeys(plane.path for plane in planes):
        plane = next(plane for plane in planes if plane.path == path)
        with quiet(plane.name, "DICOM file"):
            header = read_header(path, plane.name, pixels=True)
            for frame, stored in enumerate(frames_of(header, plane.name)):
                at = place[path, frame]
                if coloured:
                    found[:, at] = colours_of(stored, planes[at], window)
                else:
                    found[0, at], values = shades_of(stored, planes[at], window)
                    flat[at] = not values.size or bool(values.min() == values.max())
                    seen.append(values[:: max(1, values.size // _SAMPLE)])
    return found, np.concatenate([np.empty(0), *seen]), flat


def _dark(seen: NDArray[np.float64], window: Window, bits: int, name: str) -> list[str]:
    """A note where the values use so little of the range of the stored bits that the picture is one shade all over.

    Raises:
        InputError: so it is, of more bits than any detector has: nobody can know which value is black.
    """
    if window.source != "stored bits" or not seen.size or not np.isfinite(seen).all():
        return []
    low, high = (float(one) for one in np.quantile(seen, [0.005, 0.995]))
    if not 0 < high - low <= _LITTLE * (window.high - window.low):
        return []
    if high - low > 20:
        low, high = math.floor(low), math.ceil(high)
    said = f"states no window, and 99 % of its values lie between {low:g} and {high:g}"
    if bits > _DETECTOR:
        raise InputError(
            f"{name} {said}, of the {window.low:g} to {window.high:g} that its {bits} bits can hold: say which become black and "
            f"white, for all files alike, with {range_words(low, high)}, say."
        )
    return [
        f"The file {said}, a sixteenth or less of the range of its bits, {window.low:g} to {window.high:g}. If that is "
        f"not meant, say the range: {range_words(low, high)}."
    ]
