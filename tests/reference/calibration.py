"""Temperature and reliability, written a second time: float64, plain loops, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]


def softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def loss_of_class(row: Numbers, target: int, temperature: float) -> float:
    """-log softmax(row / T)[target]."""
    scaled = [z / temperature for z in row]
    most = max(scaled)
    return most + math.log(sum(math.exp(z - most) for z in scaled)) - scaled[target]


def loss_of_labels(row: Numbers, labels: Numbers, temperature: float) -> float:
    """Binary cross-entropy, summed over the labels that are known (not NaN)."""
    known = [(z / temperature, y) for z, y in zip(row, labels, strict=True) if y == y]
    return sum(y * softplus(-z) + (1 - y) * softplus(z) for z, y in known)


def one_hot(target: int, classes: int) -> list[float]:
    return [float(k == target) for k in range(classes)]


def negative_log_likelihood(
    logits: Sequence[Numbers], targets: Sequence[int] | Sequence[Numbers], probability: str, temperature: float
) -> float:
    """Of all examples together."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        if isinstance(target, int) and probability == "softmax":
            total += loss_of_class(row, target, temperature)
        else:
            labels = one_hot(target, len(row)) if isinstance(target, int) else target
            total += loss_of_labels(row, labels, temperature)
    return total


def best_temperature(logits: Sequence[Numbers], targets: Sequence[int] | Sequence[Numbers], probability: str) -> float:
    """By thirds: the loss is convex in 1/T, so that it falls and then rises over log(1/T), too."""
    low, high = math.log(0.01), math.log(100.0)
    for _ in range(120):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        at_a, at_b = (negative_log_likelihood(logits, targets, probability, math.exp(-x)) for x in (a, b))
        low, high = (low, b) if at_a < at_b else (a, high)
    return math.exp(-(low + high) / 2)


def reliability(confidence: Numbers, right: Sequence[bool], bins: int) -> list[tuple[float, float, int]]:
    """Mean confidence, part that was right, and count of every bin; NaN for empty ones."""
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for c, r in zip(confidence, right, strict=True):
        found[min(math.floor(c * bins), bins - 1)].append((c, r))
    return [
        (sum(c for c, _ in one) / len(one), sum(r for _, r in one) / len(one), len(one)) if one else (math.nan, math.nan, 0)
        for one in found
    ]
