"""Slices of a volume that look as if something went wrong: all one number, or on another scale than the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torchbcos.pictures.planes import Plane
from torchbcos.pictures.voi import Window

__all__ = ["flat_note", "scale_notes"]

_LISTED = 5
_LITTLE = 1 / 16  # of a window, by which intercepts may differ
_SCALE = ("RescaleSlope", "RescaleIntercept")


def flat_note(flat: Sequence[bool]) -> list[str]:
    """A note on slices of one number between others that vary; at the ends of a scan there may be nothing to see.

    Args:
        flat: for each slice, in order, whether all its numbers are one.

    >>> flat_note([True, False, True, False])
    ['Slice 3 of 4 holds one number all over: it may have been lost.']
    >>> flat_note([True, False, False]), flat_note([True, True])
    ([], [])
    """
    varying = [i for i, one in enumerate(flat) if not one]
    inner = [i for i in range(varying[0], varying[-1]) if flat[i]] if varying else []
    return [f"{_slices(inner)} of {len(flat)} {_hold(inner)} one number all over: {_lost(inner)}."] if inner else []


def scale_notes(planes: Sequence[Plane], window: Window) -> list[str]:
    """Notes on rescale slopes and intercepts: missing where the values are called HU, or in a few slices; or others than most.

    Args:
        planes: in order; each has a scale of its own, and in PET they differ by right.
        window: an intercept that differs by more than a sixteenth of it is said.
    """
    if any(plane.header.get("ModalityLUTSequence") for plane in planes):
        return []
    given = [any(plane.get(key) not in (None, "") for key in _SCALE) for plane in planes]
    if not any(given):
        called = planes[0].unit == "HU"
        return ["Its values are called HU, and it has no rescale intercept: they are taken as they are stored."] if called else []
    bare = [i for i, one in enumerate(given) if not one]
    if bare:
        return [f"{_slices(bare)} of {len(planes)} {_have(bare)} no rescale slope and intercept, as the others have."]
    intercepts = [(plane.numbers("RescaleIntercept", 1) or [0.0])[0] for plane in planes]
    usual = Counter(intercepts).most_common(1)[0][0]
    odd = [i for i, one in enumerate(intercepts) if abs(one - usual) > _LITTLE * (window.high - window.low)]
    if not odd:
        return []
    return [
        f"{_slices(odd)} of {len(planes)} {_have(odd)} another rescale intercept, {intercepts[odd[0]]:g}, than most, {usual:g}."
    ]


def _slices(places: Sequence[int]) -> str:
    """Which ones, counted from 1."""
    shown = ", ".join(str(i + 1) for i in places[:_LISTED])
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return f"Slice{'s' * (len(places) > 1)} {shown}{more}"


def _hold(places: Sequence[int]) -> str:
    return "hold" if len(places) > 1 else "holds"


def _have(places: Sequence[int]) -> str:
    return "have" if len(places) > 1 else "has"


def _lost(places: Sequence[int]) -> str:
    return "they may have been lost" if len(places) > 1 else "it may have been lost"
