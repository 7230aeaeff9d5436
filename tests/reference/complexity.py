"""Gini coefficient and entropy of one map, written a second time: float64, plain loops, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]


def gini(values: Numbers) -> float:
    """Half the mean absolute difference of all pairs of magnitudes, relative to their mean: no order is needed."""
    a = [abs(v) for v in values]
    if not any(a):
        return math.nan
    differences = sum(abs(x - y) for x in a for y in a) / len(a) ** 2
    return differences / (2 * sum(a) / len(a))


def entropy(values: Numbers) -> float:
    """-Σ p ln p of the magnitudes' shares; a share of zero adds nothing."""
    total = sum(abs(v) for v in values)
    if not total:
        return math.nan
    return -sum(abs(v) / total * math.log(abs(v) / total) for v in values if v)
