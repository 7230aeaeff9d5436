"""What numbers of a method's settings must be, said once."""

from __future__ import annotations

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import real

__all__ = ["inside", "non_negative"]


def inside(value: object, name: str) -> float:
    """A number between 0 and 1, both excluded.

    Raises:
        InputError: it is not.
    """
    found = real(value)
    if found is None or not 0 < found < 1:
        raise InputError(f"{name} must be a number between 0 and 1, both excluded, not {value!r}.")
    return found


def non_negative(value: object, name: str) -> float:
    """A finite number of at least 0.

    Raises:
        InputError: it is not.
    """
    found = real(value)
    if found is None or not 0 <= found < float("inf"):
        raise InputError(f"{name} must be a number of at least 0, not {value!r}.")
    return found
