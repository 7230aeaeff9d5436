"""Scores of a classifier, written a second time: float64, plain loops, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]
BINS = 15


def chances(logits: Numbers, probability: str) -> list[float]:
    """Probabilities of one example's classes."""
    if probability == "sigmoid":
        return [1 / (1 + math.exp(-z)) for z in logits]
    powers = [math.exp(z - max(logits)) for z in logits]
    return [p / sum(powers) for p in powers]


def top(logits: Sequence[Numbers], targets: Sequence[int], k: int) -> float:
    """Percent of examples with fewer than k classes above the right one."""
    hits = [sum(z > row[t] for z in row) < k for row, t in zip(logits, targets, strict=True)]
    return 100 * sum(hits) / len(hits)


def loss(logits: Sequence[Numbers], targets: Sequence[int], probability: str) -> float:
    """Mean negative logarithm of the right class's part of all probabilities."""
    rows = [chances(row, probability) for row in logits]
    return -sum(math.log(row[t] / sum(row)) for row, t in zip(rows, targets, strict=True)) / len(rows)


def calibration(confidence: Numbers, right: Sequence[bool]) -> float:
    """Percent: how far confidence and frequency are apart, over bins of equal width (Guo et al. 2017, arXiv 1706.04599)."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for c, r in zip(confidence, right, strict=True):
        bins.setdefault(min(math.floor(c * BINS), BINS - 1), []).append((c, r))
    gaps = [abs(sum(c for c, _ in found) - sum(r for _, r in found)) for found in bins.values()]
    return 100 * sum(gaps) / len(confidence)


def average_precision(scores: Numbers, truth: Sequence[bool]) -> float:
    """Area under precision over recall, in steps: each positive adds the precision at its rank."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, total = 0, 0.0
    for rank, i in enumerate(order, 1):
        if truth[i]:
            found += 1
            total += found / rank
    return total / found


def f1(scores: Numbers, truth: Sequence[bool]) -> float:
    """2·hits / (said + true) at a threshold of 0.5; 0 where there are none."""
    said = [s > 0.5 for s in scores]
    hits = sum(a and b for a, b in zip(said, truth, strict=True))
    return 2 * hits / (sum(said) + sum(truth)) if hits else 0.0
