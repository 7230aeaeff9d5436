"""What a scan's file says that a picture must show: distances, directions, the stored numbers and the names of channels.

Facts come from strangers' files: what does not fit is left out, never believed and never an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos.rendering.text import format_number

__all__ = ["Facts", "facts_of"]

_MOST_STRETCH = 100.0  # of a voxel: a file that says more than this is wrong
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S", "H": "F", "F": "H"}
_ABOVE, _AT_LEFT = "SHA", "RA"  # where they belong in a slice
_WORDS = {
    "L": "left", "R": "right", "A": "front", "P": "back", "S": "head", "I": "feet", "H": "head", "F": "feet"
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """Facts that fit a map of some axes of space.

    Attributes:
        spacing: from one sample to the next along each axis, above 0, None where it is unknown; () where nothing is known.
        ends: for each axis the letter of the side at its beginning and at its end ("R", "L"); () where unknown.
        window: the stored numbers that are 0 and 1 in the input, and their unit; None where the input is what was stored.
        channels: their names; ().
    """

    spacing: tuple[float | None, ...] = ()
    ends: tuple[tuple[str, str], ...] = ()
    window: tuple[float, float, str] | None = None
    channels: tuple[str, ...] = ()

    def aspect(self, vertical: int, horizontal: int) -> float:
        """Height of a pixel in its widths, in a picture of these two axes."""
        down, across = (self.spacing[axis] if self.spacing else None for axis in (vertical, horizontal))
        if down is None or across is None:
            return 1.0
        ratio = down / across
        return ratio if abs(math.log(ratio)) > 0.01 else 1.0

    def turned(self, vertical: int, horizontal: int) -> tuple[bool, bool]:
        """Whether a slice of these two axes is drawn upside down, and the other way round, to be seen as radiologists see it.

        The head is above, else the front; the patient's right is at the left, else the front. What is not known stays as stored.

        >>> Facts(ends=(("I", "S"), ("A", "P"), ("R", "L"))).turned(0, 1)
        (True, False)
        """
        if not self.ends:
            return False, False
        return self.ends[vertical][1] in _ABOVE, self.ends[horizontal][1] in _AT_LEFT

    def along(self, axis: int) -> str:
        """In which direction an axis runs, in words: ", from feet to head", or ""."""
        return f", from {_WORDS[self.ends[axis][0]]} to {_WORDS[self.ends[axis][1]]}" if self.ends else ""

    def stored(self, value: float) -> str:
        """A number of the input, as the file has it: "-160 HU", or as it is."""
        if self.window is None:
            return format_number(value)
        low, high, unit = self.window
        return f"{format_number(low + value * (high - low))} {unit}".rstrip()


def facts_of(facts: Mapping[str, Any] | None, spacing: Sequence[float] | float | None, axes: int, channels: int) -> Facts:
    """What is known of a map of so many axes and channels.

    Args:
        facts: "spacing" (a number an axis), "orientation" (a letter or word an axis, the side that its numbers run to: "SPL"),
            "window" (two numbers), "unit", "channels" (names); None: nothing.
        spacing: a caller's own, which goes before the file's.
        axes: of space.
        channels: of the input.

    Raises:
        InputError: the caller's spacing does not fit.

    >>> facts_of({"spacing": [5, 1, 1], "orientation": "SPL"}, None, 3, 1).along(0)
    ', from feet to head'
    """
    known = facts or {}
    own = None if spacing is None else _numbers([spacing] if isinstance(spacing, (int, float)) else spacing, axes)
    if spacing is not None and (not own or None in own):
        raise InputError(
            f"spacing must be {axes} numbers above 0, the distance of samples along each axis of space, no more than "
            f"{_MOST_STRETCH:g} times each other; got {spacing!r}."
        )
    names = known.get("channels")
    named = isinstance(names, (list, tuple)) and len(names) == channels and all(isinstance(n, str) for n in names)
    return Facts(
        spacing=own or _numbers(known.get("spacing"), axes), ends=_ends(known.get("orientation"), axes), window=_window(known),
        channels=tuple(names) if named and names else (),
    )  # fmt: skip


def _numbers(given: Any, axes: int) -> tuple[float | None, ...]:
    """That many numbers above 0 or None, none out of all proportion to another; () where they are not that."""
    try:
        found = tuple(None if number is None else float(number) for number in given)
    except (TypeError, ValueError, OverflowError):
        return ()
    known = [number for number in found if number is not None]
    fits = len(found) == axes and known and all(math.isfinite(n) and n > 0 for n in known)
    return found if fits and max(known) <= _MOST_STRETCH * min(known) else ()


def _ends(given: Any, axes: int) -> tuple[tuple[str, str], ...]:
    words = {word: letter for letter, word in reversed(_WORDS.items())} | {
        "anterior": "A", "posterior": "P", "superior": "S", "inferior": "I"
    }  # fmt: skip
    if not isinstance(given, (str, list, tuple)) or len(given) != axes:
        return ()
    letters = [words.get(word.lower(), word.upper()) if isinstance(word, str) else "" for word in given]
    if any(letter not in _OPPOSITE for letter in letters):
        return ()
    return tuple((_OPPOSITE[letter], letter) for letter in letters)


def _window(known: Mapping[str, Any]) -> tuple[float, float, str] | None:
    try:
        low, high = (float(number) for number in known.get("window") or ())
    except (TypeError, ValueError, OverflowError):
        return None
    unit = known.get("unit")
    if not (math.isfinite(low) and math.isfinite(high) and low != high):
        return None
    return low, high, unit if isinstance(unit, str) else ""
