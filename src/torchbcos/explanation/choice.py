"""Which images an index of an explanation means, and several explanations as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.numbers import integer

__all__ = ["chosen", "joined", "picked"]

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


def joined(parts: Sequence[Any], tensors: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """The fields of one explanation of all images of several; photos and titles where each part has its own."""
    present = {n: [getattr(p, n) for p in parts] for n in tensors}
    found: dict[str, Any] = {n: None if any(t is None for t in ts) else torch.cat(ts) for n, ts in present.items()}
    keys = list(dict.fromkeys(k for p in parts for k in p.constants))
    found["constants"] = {k: torch.cat([p.constants.get(k, torch.zeros_like(p.values)) for p in parts]) for k in keys}
    found["fixed"] = tuple(dict.fromkeys(k for p in parts for k in p.fixed))
    found["tolerance"] = max((p.tolerance for p in parts if p.tolerance is not None), default=None)
    kept = {n: tuple(t for p in parts for t in getattr(p, n)) if all(getattr(p, n) for p in parts) else () for n in words}
    return found | kept
