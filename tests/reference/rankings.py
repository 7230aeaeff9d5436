"""Kendall's τ-b of two rankings, written a second time: pairs are counted one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def tau_b(a: Sequence[float], b: Sequence[float]) -> float:
    """(Concordant less discordant pairs) by the geometric mean of the pairs that are not tied in each (Kendall 1945)."""
    concordant = discordant = tied_a = tied_b = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = a[i] - a[j], b[i] - b[j]
            concordant += x * y > 0
            discordant += x * y < 0
            tied_a += x == 0
            tied_b += y == 0
    pairs = len(a) * (len(a) - 1) // 2
    if tied_a == pairs or tied_b == pairs:
        return math.nan
    return (concordant - discordant) / math.sqrt((pairs - tied_a) * (pairs - tied_b))


def means(rows: Sequence[Sequence[float]], images: Sequence[int], sign: int) -> list[float]:
    """For each method the mean over the drawn images that have a number."""
    found = []
    for row in rows:
        defined = [row[i] for i in images if not math.isnan(row[i])]
        found.append(sign * math.fsum(defined) / len(defined) if defined else math.nan)
    return found
