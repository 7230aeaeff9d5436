"""The settings of preprocessing, checked one by one."""

from __future__ import annotations

import math

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint

__all__ = ["check_count", "check_numbers", "check_side", "check_word"]

_LONGEST_SIDE = 8192


def check_side(name: str, value: object) -> None:
    """A side in pixels, or None.

    Raises:
        ArgumentTypeError, InputError: it is neither.
    """
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be a whole number of pixels or None, got {value!r}.")
    if not 1 <= value <= _LONGEST_SIDE:
        raise InputError(f"{name} must lie between 1 and {_LONGEST_SIDE} pixels, got {value}.")


def check_count(name: str, value: object, most: int) -> None:
    """A whole number from 1 to `most`.

    Raises:
        ArgumentTypeError, InputError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be a whole number, got {value!r}.")
    if not 1 <= value <= most:
        raise InputError(f"{name} must lie between 1 and {most}, got {value}.")


def check_word(name: str, value: object, known: tuple[str, ...]) -> None:
    """One of the words that are known.

    Raises:
        InputError: it is none of them.
    """
    if value not in known:
        words = " or ".join(repr(word) for word in known)
        raise InputError(f"{name} must be {words}, got {value!r}.{hint(str(value), known)}")


def check_numbers(name: str, value: object, count: int) -> tuple[float, ...] | None:
    """As many finite numbers as there are channels, or None.

    Raises:
        ArgumentTypeError, InputError: they are something else.

    >>> check_numbers("mean", [0, 1], 2)
    (0.0, 1.0)
    """
    if value is None:
        return None
    many = "three numbers, one a colour" if count == 3 else f"{count} numbers, one a channel"
    if not isinstance(value, (tuple, list)):
        raise ArgumentTypeError(f"{name} must be {many}, or None; got {type(value).__name__}.")
    numbers = [v for v in value if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != count or len(value) != count:
        raise InputError(f"{name} must be {many.replace(' numbers', ' finite numbers')}; got {value!r:.100}.")
    return tuple(float(number) for number in numbers)
