"""Which images an index of an explanation means."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.numbers import integer

__all__ = ["chosen", "picked"]

_T = TypeVar("_T")


def chosen(wanted: Any, count: int) -> slice | list[int]:
    """The rows that an index means, as tensors take them: a slice shares memory, a list copies.

    Args:
        wanted: a whole number, a slice, a sequence of whole numbers, or a mask.
        count: of rows.

    Raises:
        InputError: there is no such row.

    >>> chosen(-1, 3), chosen(slice(None, None, -1), 3), chosen([True, False, True], 3)
    (slice(2, 3, None), [2, 1, 0], [0, 2])
    """
    if isinstance(wanted, slice):
        start, stop, step = wanted.indices(count)
        return slice(start, stop, step) if step > 0 else list(range(start, stop, step))
    place = integer(wanted)
    if place is not None:
        if -count <= place < count:
            return slice(place % count, place % count + 1)
        raise InputError(f"There are {count} explained images; {wanted!r} is not one of them.")
    listed = wanted.tolist() if isinstance(wanted, (Tensor, np.ndarray)) else wanted
    if isinstance(listed, (list, tuple, range)):
        if len(listed) == count and listed and all(isinstance(one, (bool, np.bool_)) for one in listed):
            return [row for row, kept in enumerate(listed) if kept]
        places = [integer(one) for one in listed]
        found = [one % count for one in places if one is not None and -count <= one < count]
        if len(found) == len(places):
            return found
    raise InputError(
        f"There are {count} explained images: give a number from 0 to {count - 1}, a slice, a list of numbers or a mask of "
        f"{count} booleans; {shorten(repr(wanted), 80)} is not one of them."
    )


def picked(words: tuple[_T, ...], rows: slice | list[int]) -> tuple[_T, ...]:
    """Those of the words that belong to the rows; none where there are none."""
    if not words:
        return ()
    return words[rows] if isinstance(rows, slice) else tuple(words[row] for row in rows)
