"""Agreement of two maps of one image, written a second time: float64, plain loops, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

Numbers = Sequence[float]
Rows = Sequence[Numbers]


def pooled(rows: Rows, cells: int) -> list[float]:
    """Averages over the cells of a grid; cell i of n covers the pixels from ⌊i·P/n⌋ up to ⌈(i + 1)·P/n⌉."""
    height, width = len(rows), len(rows[0])
    down, across = min(cells, height), min(cells, width)
    found = []
    for i in range(down):
        for j in range(across):
            ys = range(i * height // down, -(-(i + 1) * height // down))
            xs = range(j * width // across, -(-(j + 1) * width // across))
            found.append(sum(rows[y][x] for y in ys for x in xs) / (len(ys) * len(xs)))
    return found


def ranks(values: Numbers) -> list[float]:
    """How many are smaller, plus half of the others that are equal, plus one."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def pearson(a: Numbers, b: Numbers) -> float:
    """Covariance by the product of standard deviations; undefined if one of them is zero."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return math.nan
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    covariance = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


def spearman(a: Numbers, b: Numbers) -> float:
    """Pearson's correlation of the ranks."""
    return pearson(ranks(a), ranks(b))


def membership(values: Numbers, count: int) -> list[Fraction]:
    """How much of each cell is among the `count` of largest magnitude: cells that tie share the places that are left."""
    sizes = [abs(v) for v in values]
    found = []
    for size in sizes:
        above, level = sum(other > size for other in sizes), sizes.count(size)
        found.append(min(max(Fraction(count - above, level), Fraction(0)), Fraction(1)))
    return found


def shared(a: Numbers, b: Numbers, kind: str, count: int) -> float:
    """The part of the largest cells that two maps have in common (Krishna et al., arXiv 2202.01602)."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return math.nan
    ranks_a, ranks_b = ranks([abs(v) for v in a]), ranks([abs(v) for v in b])
    total = Fraction(0)
    for i, (in_a, in_b) in enumerate(zip(membership(a, count), membership(b, count), strict=True)):
        if kind in ("rank", "signed_rank") and ranks_a[i] != ranks_b[i]:
            continue
        if kind in ("sign", "signed_rank") and math.copysign(1, a[i]) * bool(a[i]) != math.copysign(1, b[i]) * bool(b[i]):
            continue
        total += min(in_a, in_b)
    return float(total / count)
