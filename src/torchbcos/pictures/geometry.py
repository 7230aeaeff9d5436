"""Where the planes of a volume lie: their order along the slice normal, the spacing, and the directions of the axes.

Positions are millimetres in the patient's space of DICOM: x grows to the patient's left, y to the back, z to the head. The
normal is the product of the directions of rows and columns (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from torchbcos._core.errors import InputError
from torchbcos.pictures.planes import Plane
from torchbcos.pictures.voi import Doubles

__all__ = ["Stack", "axis_letters", "plane_orientation", "plane_spacing", "stack"]

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # where x, y, z grow, and the other way
_PARALLEL = 1e-3  # by which directions of one volume may differ
_SAME_PLACE = 1e-3  # millimetres
_UNEVEN = 0.05  # of the spacing, and never less than a hundredth of a millimetre, which is how positions are rounded
_ROUNDED = 0.011
_MOST_MISSING = 2.0  # times as long as its slices, one beside the other
_ALIKE = 0.01  # of the spacing of pixels


@dataclass(frozen=True)
class Stack:
    """Planes in their order.

    Attributes:
        planes: from the first slice to the last.
        spacing: millimetres along slices, rows and columns; None where the files do not say it.
        orientation: letters for the ways in which slices, rows and columns are counted: "SPL", to the head (superior), to
            the back (posterior) and to the left; None where the files do not say it.
        notes: what a user should know.
    """

    planes: Sequence[Plane]
    spacing: list[float | None]
    orientation: str | None
    notes: list[str] = field(default_factory=list)


def axis_letters(directions: Doubles) -> str:
    """The nearest of six letters for each direction (n, 3).

    >>> axis_letters(np.array([[0.0, 0.0, 1.0], [0.0, 0.9, 0.1], [1.0, 0.0, 0.0]]))
    'SPL'
    """
    axes = np.abs(directions).argmax(axis=1)
    return "".join(_LETTERS[axis][int(row[axis] < 0)] for axis, row in zip(axes, directions, strict=True))


def plane_orientation(plane: Plane) -> Doubles | None:
    """The directions (2, 3) in which rows and columns are counted: down the picture and to its right; None where not said."""
    numbers = plane.numbers("ImageOrientationPatient", 6)
    if not numbers:
        return None
    right, down = np.array(numbers[:3]), np.array(numbers[3:])
    lengths = [float(np.linalg.norm(one)) for one in (right, down)]
    if min(lengths) < 0.5 or abs(float(right @ down)) > 0.01 * lengths[0] * lengths[1]:
        return None
    return np.stack([down / lengths[1], right / lengths[0]])


def plane_spacing(plane: Plane) -> list[float | None]:
    """Millimetres from row to row and from column to column; of a projection, on its detector."""
    numbers = plane.numbers("PixelSpacing", 2) or plane.numbers("ImagerPixelSpacing", 2)
    return [*numbers] if numbers and min(numbers) > 0 else [None, None]


def stack(planes: Sequence[Plane], what: str) -> Stack:
    """Put planes into the order of their places, and measure the distance between them.

    Args:
        planes: of one volume, all of one size.
        what: they are, as a message says it: "'ct/' holds".

    Raises:
        InputError: they are not parallel, lie on one another, have different pixels, or nothing says their order.
    """
    orientations = [plane_orientation(plane) for plane in planes]
    positions = [plane.numbers("ImagePositionPatient", 3) for plane in planes]
    _one_spacing(planes, what)
    if len({plane.path for plane in planes}) == 1 and "PerFrameFunctionalGroupsSequence" not in planes[0].header:
        return _by_frame(planes)
    if any(not position for position in positions) or any(one is None for one in orientations):
        if any(positions):
            missing = sum(not position or one is None for position, one in zip(positions, orientations, strict=True))
            raise InputError(f"{what} {len(planes)} slices, and {missing} of them do not say where they lie: take those away.")
        return _by_number(planes, what)
    directions = np.stack([one for one in orientations if one is not None])
    _one_direction(directions, what)
    normal = np.cross(directions[0, 1], directions[0, 0])
    places = np.array(positions)
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    if (twice := int((steps < _SAME_PLACE).sum())) > 0:
        raise InputError(
            f"{what} {len(planes)} slices, and {twice} of them lie where another one lies: several phases, echoes or series. "
            "Keep one of them."
        )
    if float(steps.sum()) > _MOST_MISSING * float(np.median(steps)) * len(steps):
        raise InputError(
            f"{what} {len(planes)} slices {np.median(steps):.4g} mm apart over {steps.sum():.4g} mm: more are "
            "missing than are there. Export the whole series."
        )
    notes = _uneven(steps) + _slanted(places[order], heights[order], normal)
    spacing = [float(np.median(steps)), *plane_spacing(planes[0])]
    letters = axis_letters(np.stack([normal, *directions[0]]))
    return Stack([planes[i] for i in order], spacing, letters, notes)


def _by_frame(planes: Sequence[Plane]) -> Stack:
    """Frames of one file that do not say where each lies: a dose lists distances along the normal, others have nothing."""
    offsets = planes[0].numbers("GridFrameOffsetVector", len(planes))
    steps, directions = np.diff(np.array(offsets)), plane_orientation(planes[0])
    pixels = plane_spacing(planes[0])
    if directions is None or not len(steps) or not (np.all(steps > _SAME_PLACE) or np.all(steps < -_SAME_PLACE)):
        notes = ["The file does not say where its frames lie: they stand in the order of the file."]
        return Stack(planes, [None, *pixels], None, notes)
    ordered = planes if steps[0] > 0 else planes[::-1]
    normal = np.cross(directions[1], directions[0])
    return Stack(
        ordered, [float(np.median(abs(steps))), *pixels], axis_letters(np.stack([normal, *directions])), _uneven(abs(steps))
    )


def _by_number(planes: Sequence[Plane], what: str) -> Stack:
    """The order of the numbers that a scanner gave to its pictures."""
    numbers = [plane.numbers("InstanceNumber", 1) for plane in planes]
    flat = [number[0] for number in numbers if number]
    if len(set(flat)) < len(planes):
        raise InputError(
            f"{what} {len(planes)} slices that say neither where they lie nor their numbers: nothing tells their order."
        )
    order = np.argsort(flat, kind="stable")
    notes = ["The files do not say where their slices lie: they stand in the order of their instance numbers."]
    return Stack([planes[i] for i in order], [None, *plane_spacing(planes[0])], None, notes)


def _one_direction(directions: Doubles, what: str) -> None:
    """Refuse planes that are not parallel: a localiser has two or three directions."""
    away = np.abs(directions - directions[0]).max(axis=(1, 2)) > _PARALLEL
    if away.any():
        raise InputError(
            f"{what} slices of several directions: {int((~away).sum())} are parallel to the first and {int(away.sum())} are not. "
            "Is a localiser (scout) among them? Keep the slices of one direction."
        )


def _one_spacing(planes: Sequence[Plane], what: str) -> None:
    """Refuse pixels of different sizes: they would be drawn as if they were of one."""
    found = [plane_spacing(plane) for plane in planes]
    first = found[0]
    other = [one for one in found if not _alike(one, first)]
    if other:
        raise InputError(
            f"{what} slices with pixels of several sizes: {_apart(first)} mm, and {len(other)} with others, "
            f"{_apart(other[0])} mm. Keep those of one size."
        )


def _alike(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a == b or (a is not None and b is not None and abs(a - b) <= _ALIKE * b) for a, b in pairs)


def _apart(spacing: Sequence[float | None]) -> str:
    return " × ".join("?" if one is None else f"{one:g}" for one in spacing)


def _uneven(steps: Doubles) -> list[str]:
    """A note where slices are not evenly apart, with the place of the widest gap."""
    middle = float(np.median(steps))
    if np.all(np.abs(steps - middle) <= max(_UNEVEN * middle, _ROUNDED)):
        return []
    widest = int(steps.argmax())
    gap = f"{steps[widest]:.4g} mm between slices {widest + 1} and {widest + 2}"
    missing = " Slices may be missing there." if steps[widest] > 1.5 * middle else ""
    return [f"The slices are not evenly apart: {middle:.4g} mm mostly, {float(steps.min()):.4g} mm at least, and {gap}.{missing}"]


def _slanted(places: Doubles, heights: Doubles, normal: Doubles) -> list[str]:
    """A note where the slices are shifted against each other: a CT with its gantry tilted is a slanted box."""
    aside = places - heights[:, None] * normal
    drift = float(np.abs(aside - aside[0]).max())
    span = float(heights[-1] - heights[0])
    if drift <= max(_ROUNDED, _ALIKE * span):
        return []
    return [
        f"The slices are shifted sideways by up to {drift:.4g} mm (a tilted gantry?): the volume is drawn as if they were not."
    ]
