"""Statistics of a comparison, written a second time: plain loops over drawn sets, whole numbers and fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

Items = Sequence[Sequence[float]]


def percentile(numbers: Sequence[float], share: float) -> float:
    """On the line between the two numbers around the place (Hyndman and Fan 1996, definition 7)."""
    if not numbers:
        return math.nan
    ordered = sorted(numbers)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    if ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def mean(numbers: Sequence[float]) -> float:
    """NaN of none."""
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def counted(items: Items, undefined: str) -> list[list[float]]:
    """The numbers of each item that count: 0 for one that is undefined, or none, unless nothing is defined at all."""
    nothing = all(math.isnan(v) for item in items for v in item)
    if undefined == "zero" and not nothing:
        return [[0.0 if math.isnan(v) else v for v in item] for item in items]
    return [[v for v in item if not math.isnan(v)] for item in items]


def interval(items: list[list[float]], sets: Sequence[Sequence[int]], which: str) -> tuple[float, float]:
    """2.5 and 97.5 % of the mean or the median over drawn sets of items; sets without a number are left out."""
    if len(items) < 2:
        return math.nan, math.nan
    found = []
    for one in sets:
        numbers = [v for i in one for v in items[i]]
        if numbers:
            found.append(mean(numbers) if which == "mean" else percentile(numbers, 0.5))
    return percentile(found, 0.025), percentile(found, 0.975)


def row(items: Items, undefined: str, sets: Sequence[Sequence[int]]) -> dict[str, float]:
    """All that is said of one method and metric."""
    kept = counted(items, undefined)
    numbers = [v for item in kept for v in item]
    found: dict[str, float] = {
        "n": len(items),
        "values": sum(len(item) for item in items),
        "undefined": sum(math.isnan(v) for item in items for v in item),
        "mean": mean(numbers),
        "median": percentile(numbers, 0.5),
        **{f"p{share}": percentile(numbers, share / 100) for share in (5, 25, 50, 75)},
    }
    for which in ("mean", "median"):
        found[f"{which}_low"], found[f"{which}_high"] = interval(kept, sets, which)
    return found


def sign_test(better: int, worse: int) -> Fraction:
    """Twice the smaller tail of fair coins, at most 1."""
    trials = better + worse
    tail = sum(math.comb(trials, k) for k in range(min(better, worse) + 1))
    return min(Fraction(1), Fraction(2 * tail, 2**trials))


def apart(a: Items, b: Items, undefined: str) -> list[tuple[float, float]]:
    """The means of both methods for each item that both have."""
    pairs = zip(counted(a, undefined), counted(b, undefined), strict=True)
    return [(mean(x), mean(y)) for x, y in pairs if x and y]


def pair(a: Items, b: Items, lower: bool, undefined: str, sets: Sequence[Sequence[int]]) -> dict[str, float]:
    """Two methods, item by item; `sets` are of the items that both have."""
    both = apart(a, b, undefined)
    differences = [x - y for x, y in both]
    signs = []
    for x, y in both:
        tied = abs(x - y) <= 8 * 2.0**-23 * max(abs(x), abs(y))
        signs.append(0 if tied else (1 if (x > y) != lower else -1))
    low, high = interval([[d] for d in differences], sets, "mean")
    return {
        "n": len(both), "difference": mean(differences), "low": low, "high": high,
        "better": signs.count(1), "worse": signs.count(-1), "tied": signs.count(0),
        "p": float(sign_test(signs.count(1), signs.count(-1))) if both else math.nan,
    }  # fmt: skip


def edges(grey: Items, cells: int) -> list[list[float]]:
    """Sobel's gradient of each cell alone; pixels beyond its border are those of the border."""
    h, w = len(grey) // cells, len(grey[0]) // cells
    found = [[0.0] * len(grey[0]) for _ in grey]
    for y, line in enumerate(found):
        for x in range(len(line)):
            top, left = y - y % h, x - x % w
            at = {
                (i, j): grey[min(max(y + i, top), top + h - 1)][min(max(x + j, left), left + w - 1)]
                for i in (-1, 0, 1) for j in (-1, 0, 1)
            }  # fmt: skip
            across = sum((2 - abs(i)) * (at[i, 1] - at[i, -1]) for i in (-1, 0, 1))
            down = sum((2 - abs(j)) * (at[1, j] - at[-1, j]) for j in (-1, 0, 1))
            line[x] = math.sqrt(across**2 + down**2)
    return found


def centre(height: int, width: int, cells: int) -> list[list[float]]:
    """A Gaussian around the middle of each cell, σ a quarter of each side."""
    h, w = height // cells, width // cells

    def along(place: int, side: int) -> float:
        return math.exp(-(((place % side) - (side - 1) / 2) ** 2) / (2 * (side / 4) ** 2))

    return [[along(y, h) * along(x, w) for x in range(width)] for y in range(height)]


def aggregate(
    maps: Sequence[Items], scores: Sequence[float], masses: Sequence[float], edges: Sequence[int], signed: bool
) -> list[tuple[list[int], list[list[float]] | None]]:
    """AggAtt (arXiv 2205.10435): for each bin its maps, the best first, and their mean in units of their own maxima."""

    def key(i: int) -> tuple[bool, float, float, int]:
        return math.isnan(scores[i]), 0.0 if math.isnan(scores[i]) else -scores[i], -masses[i], i

    order, found = sorted(range(len(maps)), key=key), []
    for low, high in pairwise(edges):
        chosen = order[len(maps) * low // 100 : len(maps) * high // 100]
        units = []
        for i in chosen:
            kept = [[v if signed else max(0.0, v) for v in line] for line in maps[i]]
            largest = max(abs(v) for line in kept for v in line)
            units.append([[v / largest if largest else 0.0 for v in line] for line in kept])
        rows, columns = range(len(maps[0])), range(len(maps[0][0]))
        found.append((chosen, [[mean([u[y][x] for u in units]) for x in columns] for y in rows] if chosen else None))
    return found
