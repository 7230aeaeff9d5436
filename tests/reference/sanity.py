"""Randomisation tests of one image, written a second time: float64, plain loops, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.reference import likeness

Rows = Sequence[Sequence[float]]


def randomisation(trained: Rows, layers: Sequence[Rows], cells: int) -> tuple[list[float], float]:
    """Spearman's ρ of pooled maps for each layer, and the mean of those that are defined."""
    found = [likeness.spearman(likeness.pooled(trained, cells), likeness.pooled(layer, cells)) for layer in layers]
    defined = [value for value in found if not math.isnan(value)]
    return found, sum(defined) / len(defined) if defined else math.nan


def mean_of_noisy(maps: Sequence[Sequence[float]]) -> list[float]:
    """Pixel by pixel, the mean of maps."""
    return [math.fsum(pixel) / len(maps) for pixel in zip(*maps, strict=True)]


def histogram_entropy(values: Sequence[float], bins: int) -> float:
    """-Σ p ln p over bins of equal width; each holds its lower end, and the last its upper one, too."""
    low, high = min(values), max(values)
    if low == high:
        return 0.0
    counts: dict[int, int] = {}
    for value in values:
        place = min(math.floor((value - low) / (high - low) * bins), bins - 1)
        counts[place] = counts.get(place, 0) + 1
    return -sum(n / len(values) * math.log(n / len(values)) for n in counts.values())
