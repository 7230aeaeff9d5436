"""Where evidence lies, written a second time: float64, plain loops, from the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

Map = Sequence[Sequence[float]]
Mask = Sequence[Sequence[bool]]


def window(k: int, kernel: str) -> list[list[float]]:
    """Weights of k x k pixels around one."""
    if kernel == "average":
        return [[1 / k**2] * k for _ in range(k)]
    line = [math.exp(-((i - k // 2) ** 2) / (2 * (k / 4) ** 2)) for i in range(k)]
    return [[a * b / sum(line) ** 2 for b in line] for a in line]


def smooth(a: Map, k: int, kernel: str) -> list[list[float]]:
    """Weighted mean around every pixel; zeros outside."""
    height, width, weights = len(a), len(a[0]), window(k, kernel)
    found = [[0.0] * width for _ in range(height)]
    for y, x, i, j in product(range(height), range(width), range(k), range(k)):
        v, u = y + i - k // 2, x + j - k // 2
        if 0 <= v < height and 0 <= u < width:
            found[y][x] += weights[i][j] * a[v][u]
    least = 1e-14 * max(abs(v) for line in a for v in line) if k > 1 else 0.0
    return [[v if abs(v) > least else 0.0 for v in line] for line in found]  # numbers that cancel leave rounding


def grid_pointing(a: Map, cell: int, n: int, *, k: int = 1, inside: bool = False, kernel: str = "average") -> float:
    """CoDA-Nets (arXiv 2104.00032), eq. 11, of one map."""
    h, w = len(a) // n, len(a[0]) // n
    whole = a if inside else smooth(a, k, kernel)
    masses = []
    for row, column in product(range(n), range(n)):
        part = [line[column * w : (column + 1) * w] for line in whole[row * h : (row + 1) * h]]
        masses.append(sum(max(0.0, v) for line in (smooth(part, k, kernel) if inside else part) for v in line))
    return masses[cell] / sum(masses) if sum(masses) > 0 else math.nan


def energy(a: Map, mask: Mask) -> float:
    """Positive evidence on the object, of all of it."""
    on = total = 0.0
    for line, row in zip(a, mask, strict=True):
        for v, m in zip(line, row, strict=True):
            total += max(0.0, v)
            on += max(0.0, v) if m else 0.0
    return on / total if total > 0 and any(map(any, mask)) else math.nan


def _iou(high: set[int], inside: set[int]) -> float:
    return len(high & inside) / len(high | inside)


def iou(a: Map, mask: Mask, threshold: float | None) -> float:
    """Intersection over union: above one threshold, or the mean over the highest 5, 10, … 95 %."""
    values = [max(0.0, v) for line in a for v in line]
    inside = {i for i, m in enumerate(m for row in mask for m in row) if m}
    low, high = min(values), max(values)
    if high == 0 or not inside:
        return math.nan
    if threshold is not None:
        above = {i for i, v in enumerate(values) if low == high or (v - low) / (high - low) > threshold}
        return _iou(above, inside)
    found = []
    for percent in range(5, 100, 5):
        least = sorted(values, reverse=True)[-(-percent * len(values) // 100) - 1]
        found.append(_iou({i for i, v in enumerate(values) if v >= least and v > 0}, inside))
    return sum(found) / len(found)


def hit(a: Map, mask: Mask, tolerance: float) -> float:
    """The part of the highest pixels that lie on the object, or nearer to it than the tolerance."""
    places = list(product(range(len(a)), range(len(a[0]))))
    inside = [(y, x) for y, x in places if mask[y][x]]
    if not inside:
        return math.nan
    highest = max(a[y][x] for y, x in places)
    tied = [(y, x) for y, x in places if a[y][x] == highest]
    hits = [(y, x) in inside or min(math.dist((y, x), p) for p in inside) < tolerance for y, x in tied]
    return sum(hits) / len(tied)


def odds(row: Sequence[float], label: int, probability: str) -> float:
    """Logarithm of p / (1 - p) of the right class; -inf where the first of the highest is another."""
    if list(row).index(max(row)) != label:
        return -math.inf
    if probability == "sigmoid":
        return row[label]
    return row[label] - math.log(sum(math.exp(z) for c, z in enumerate(row) if c != label))


def most_grids(counts: tuple[int, ...], cells: int) -> int:
    """How many grids of different classes, found by taking the fullest classes each time (largest first is best)."""
    left, grids = sorted(counts, reverse=True), 0
    while len(left) >= cells and left[cells - 1] > 0:
        left = sorted([c - 1 for c in left[:cells]] + left[cells:], reverse=True)
        grids += 1
    return grids


def window_sums(size: tuple[int, int], window: int, stride: int) -> list[list[int]]:
    """In how many windows each pixel lies, if as much stands around the picture as a window is wider than its stride."""
    pad = window - stride
    starts = [[s - pad for s in range(0, side + 2 * pad - window + 1, stride)] for side in size]
    return [
        [sum(y - window < v <= y and x - window < u <= x for v in starts[0] for u in starts[1]) for x in range(size[1])]
        for y in range(size[0])
    ]


def rise_line() -> list[float]:
    """RISE's kernel along one axis: one in the middle of 11 pixels, spread by a Gaussian (σ = 5, cut at 4 σ) and folded."""
    found = [0.0] * 11
    weights = {d: math.exp(-(d**2) / 50) for d in range(-20, 21)}
    for d, weight in weights.items():
        place = (5 + d) % 22
        found[place if place < 11 else 21 - place] += weight / sum(weights.values())
    return found
