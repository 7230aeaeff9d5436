"""Metrics that remove something, written a second time: float64, plain loops, from their definitions.

A picture is a list of pixels in raster order, each a list of channels; `f` takes such a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Picture = list[list[float]]
Score = Callable[[Picture], float]


def order(values: Sequence[float], most: bool, tied: Sequence[int]) -> list[int]:
    """Pixels, the most (or the least) important first; of equal ones that which stands first in `tied`."""
    left, found = list(range(len(values))), []
    while left:
        best = left[0]
        for p in left:
            better = values[p] > values[best] if most else values[p] < values[best]
            if better or (values[p] == values[best] and tied.index(p) < tied.index(best)):
                best = p
        found.append(best)
        left.remove(best)
    return found


def without(x: Picture, base: Picture, pixels: Sequence[int]) -> Picture:
    """The picture with some pixels replaced."""
    return [list(base[p]) if p in set(pixels) else list(x[p]) for p in range(len(x))]


def curve(f: Score, x: Picture, base: Picture, goes: Sequence[int], counts: Sequence[int], keep: bool) -> list[float]:
    """The score with the first pixels gone, or with only them left."""
    return [f(without(x, base, goes[n:] if keep else goes[:n])) for n in counts]


def deletion(f: Score, x: Picture, base: Picture, goes: Sequence[int], counts: Sequence[int]) -> float:
    """The area while the first pixels go."""
    return area([n / len(x) for n in counts], curve(f, x, base, goes, counts, False))


def insertion(f: Score, x: Picture, base: Picture, goes: Sequence[int], counts: Sequence[int]) -> float:
    """The area while the first pixels come."""
    return area([n / len(x) for n in counts], curve(f, x, base, goes, counts, True))


def area(fractions: Sequence[float], values: Sequence[float]) -> float:
    """Trapezoids."""
    total = 0.0
    for i in range(1, len(fractions)):
        total += (fractions[i] - fractions[i - 1]) * (values[i] + values[i - 1]) / 2
    return total


def ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal numbers share the mean."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's; NaN where one of them is constant."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        return math.nan
    both = sum((v - mean_a) * (w - mean_b) for v, w in zip(a, b, strict=True))
    return both / math.sqrt(sum((v - mean_a) ** 2 for v in a) * sum((w - mean_b) ** 2 for w in b))


def single_deletion(f: Score, x: Picture, base: Picture, values: Sequence[float], cell_of: Sequence[int]) -> float:
    """Spearman's correlation of the sums in cells and of the drops."""
    if len(set(values)) == 1:
        return math.nan
    said, came = [], []
    for cell in sorted(set(cell_of)):
        pixels = [p for p, c in enumerate(cell_of) if c == cell]
        said.append(sum(values[p] for p in pixels))
        came.append(f(x) - f(without(x, base, pixels)))
    return correlation(ranks(said), ranks(came))


def road(f: Score, x: Sequence[Sequence[Sequence[float]]], orders: Sequence[Sequence[int]], counts: Sequence[int]) -> float:
    """Half the mean distance of two orders' scores, the least important first and the most; x is (C, H, W)."""
    width = len(x[0][0])
    scores = []
    for goes in orders:
        for n in counts:
            mask = [[r * width + c in goes[:n] for c in range(width)] for r in range(len(x[0]))]
            channels = [[value for line in imputed(channel, mask) for value in line] for channel in x]
            scores.append(f([list(pixel) for pixel in zip(*channels, strict=True)]))
    return sum(scores[i + len(counts)] - scores[i] for i in range(len(counts))) / len(counts) / 2


def imputed(values: Sequence[Sequence[float]], removed: Sequence[Sequence[bool]]) -> list[list[float]]:
    """One channel: each removed pixel is the mean of its neighbours that exist, 1/6 direct and 1/12 diagonal, over their sum."""
    at = [(r, c) for r in range(len(values)) for c in range(len(values[0])) if removed[r][c]]
    rows = []
    for r, c in at:
        row, right, weights = [0.0] * len(at), 0.0, 0.0
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                there = (r + dr, c + dc)
                if (dr, dc) == (0, 0) or not (0 <= there[0] < len(values) and 0 <= there[1] < len(values[0])):
                    continue
                weight = 1 / 6 if dr == 0 or dc == 0 else 1 / 12
                weights += weight
                if there in at:
                    row[at.index(there)] -= weight
                else:
                    right += weight * values[there[0]][there[1]]
        row[at.index((r, c))] += weights
        rows.append([v / weights for v in (*row, right)])
    found = [list(line) for line in values]
    for (r, c), value in zip(at, solved(rows), strict=True):
        found[r][c] = value
    return found


def solved(rows: list[list[float]]) -> list[float]:
    """Gauss's elimination; the right side is the last column."""
    n = len(rows)
    for i in range(n):
        best = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[best] = rows[best], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [v - rows[k][i] * w for v, w in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def sensitivity_n(f: Score, x: Picture, base: Picture, values: Sequence[float], subsets: Sequence[Sequence[int]]) -> float:
    """Pearson's correlation of the subsets' sums and drops."""
    return correlation([sum(values[p] for p in s) for s in subsets], [f(x) - f(without(x, base, s)) for s in subsets])


def infidelity(f: Score, x: Picture, weights: Picture, changes: Sequence[Picture]) -> float:
    """The mean of (I·Φ - (f(x) - f(x - I)))² over the changes I."""
    total = 0.0
    for change in changes:
        said = sum(i * w for a, b in zip(change, weights, strict=True) for i, w in zip(a, b, strict=True))
        moved = [[v - i for v, i in zip(a, b, strict=True)] for a, b in zip(x, change, strict=True)]
        total += (said - (f(x) - f(moved))) ** 2
    return total / len(changes)


def max_sensitivity(explain: Callable[[Picture], Sequence[float]], x: Picture, moved: Sequence[Picture]) -> float:
    """The largest distance of an explanation from that of x, in lengths of the latter."""
    before = explain(x)
    length = math.sqrt(sum(v * v for v in before))
    far = [math.sqrt(sum((v - w) ** 2 for v, w in zip(before, explain(picture), strict=True))) for picture in moved]
    return max(far) / length if length else math.nan
