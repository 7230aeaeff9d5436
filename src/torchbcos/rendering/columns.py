"""A long signal in as many columns as a picture has: its envelope, and what each column contributes.

Shapes: C channels, L length, n columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Doubles", "column_sums", "envelope", "group_size"]

Doubles = NDArray[np.float64]


def group_size(length: int, most: int) -> int:
    """How many neighbouring samples share a column where at most `most` columns are drawn.

    Every column but the last has equally many, so that sums of columns can be compared.

    >>> group_size(1000, 1000), group_size(1001, 1000), group_size(1_000_000, 1000)
    (1, 2, 1000)
    """
    return math.ceil(length / most)


def column_sums(contributions: NDArray[Any], group: int) -> Doubles:
    """The sum of each column's contributions: what a stretch of the signal contributes, not a sample of it.

    Args:
        contributions: (*, L).
        group: Samples in a column.

    Returns:
        (*, n) float64; n = ceil(L / group), the last column may have fewer samples.

    >>> column_sums(np.array([[1.0, -2.0, 5.0]]), 2)
    array([[-1.,  5.]])
    """
    starts = np.arange(0, contributions.shape[-1], group)
    return np.asarray(np.add.reduceat(contributions.astype(np.float64), starts, axis=-1))


def envelope(values: NDArray[Any], group: int) -> tuple[Doubles, Doubles]:
    """The least and the greatest value of each column: no peak gets lost, however narrow.

    Args:
        values: (*, L).
        group: Samples in a column.

    Returns:
        Low and high, (*, n) float64 each.

    >>> low, high = envelope(np.array([1.0, 9.0, 2.0]), 2)
    >>> low.tolist(), high.tolist()
    ([1.0, 2.0], [9.0, 2.0])
    """
    starts = np.arange(0, values.shape[-1], group)
    doubles = values.astype(np.float64)
    return np.minimum.reduceat(doubles, starts, axis=-1), np.maximum.reduceat(doubles, starts, axis=-1)
