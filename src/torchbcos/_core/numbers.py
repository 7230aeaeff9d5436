"""What counts as a number."""

from __future__ import annotations

import operator

import numpy as np
from torch import Tensor

__all__ = ["integer", "positive_integer", "real"]

_BOOLEANS = (bool, np.bool_)


def integer(value: object) -> int | None:
    """`value` as a Python int: an int, a numpy integer, or a tensor or array of one of them; None for everything else.

    A truth value is no integer: `top_k=True` is a mistake, not 1.

    >>> integer(np.int64(2)), integer(2.0), integer(True)
    (2, None, None)
    """
    if isinstance(value, _BOOLEANS) or (isinstance(value, (Tensor, np.ndarray)) and (value.ndim or "bool" in str(value.dtype))):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return None


def positive_integer(value: object) -> int | None:
    """`value` as an int of at least 1; None for everything else.

    >>> positive_integer(np.int32(3)), positive_integer(0)
    (3, None)
    """
    found = integer(value)
    return found if found is not None and found >= 1 else None


def real(value: object) -> float | None:
    """`value` as a Python float: a number of Python or NumPy, or a tensor or array of one; None for everything else.

    >>> real(np.float32(0.5)), real(2), real(True), real("2")
    (0.5, 2.0, None, None)
    """
    if isinstance(value, _BOOLEANS) or (isinstance(value, (Tensor, np.ndarray)) and (value.ndim or "bool" in str(value.dtype))):
        return None
    if not isinstance(value, (int, float, np.number, np.ndarray, Tensor)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
