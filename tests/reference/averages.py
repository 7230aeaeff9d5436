"""Average maps of items with similar scores, in plain loops (Rao, Böhle, Schiele 2022, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["average_maps"]

Map = list[list[float]]


def average_maps(
    maps: Sequence[Map], scores: Sequence[float], mass: Sequence[float], low: bool, percents: Sequence[float]
) -> list[tuple[float, float, int, Map]]:
    """First and last percent, the number of items, and their average map, of all bins with an item."""

    def place(i: int) -> tuple[bool, float, float]:
        return math.isnan(scores[i]), 0.0 if math.isnan(scores[i]) else (scores[i] if low else -scores[i]), -mass[i]

    order = sorted(range(len(maps)), key=place)
    found = []
    for first, last in pairwise(percents):
        chosen = order[round(len(order) * first / 100) : round(len(order) * last / 100)]
        if chosen:
            found.append((first, last, len(chosen), _mean([_even(maps[i]) for i in chosen])))
    return found


def _even(one: Map) -> Map:
    largest = max(abs(v) for row in one for v in row)
    return [[v / largest if largest else 0.0 for v in row] for row in one]


def _mean(maps: Sequence[Map]) -> Map:
    return [[sum(one[i][j] for one in maps) / len(maps) for j in range(len(maps[0][0]))] for i in range(len(maps[0]))]
