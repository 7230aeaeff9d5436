"""The pictures, written a second time: float64, a loop over pixels, straight from the published formulas."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def rgba(weights: Doubles, inputs: Doubles, smooth: int, percentile: float) -> Doubles:
    """(6, H, W) twice, or (2, H, W) of a grey picture -> (H, W, 4)."""
    channels, height, width = weights.shape
    out = np.zeros((height, width, 4))
    strength = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            w, x = weights[:, i, j], inputs[:, i, j]
            wanted = [max(v / (max(abs(u) for u in w) + 1e-12), 0.0) for v in w]
            for k in range(3):
                colour, inverse = (k, k + 3) if channels == 6 else (0, 1)
                out[i, j, k] = wanted[colour] / (wanted[colour] + wanted[inverse] + 1e-12)
            evidence = sum(a * b for a, b in zip(w, x, strict=True))
            strength[i, j] = math.sqrt(sum(v * v for v in w)) if evidence >= 0 else 0.0
    opacity = average(strength, smooth) if smooth > 1 else strength
    limit = quantile(opacity.reshape(-1).tolist(), percentile / 100)
    if limit == 0:
        limit = opacity.max()
    if limit > 0:
        out[:, :, 3] = np.minimum(opacity / limit, 1)
    return out


def average(values: Doubles, window: int) -> Doubles:
    """Mean over pixels inside the picture; the outermost of an even window count half."""
    height, width = values.shape
    out = np.zeros_like(values)

    def share(distance: int) -> float:
        return 1.0 if distance < window / 2 else 0.5 if distance == window / 2 else 0.0

    for i in range(height):
        for j in range(width):
            total = count = 0.0
            for u in range(height):
                for v in range(width):
                    part = share(abs(u - i)) * share(abs(v - j))
                    total += part * values[u, v]
                    count += part
            out[i, j] = total / count
    return out


def quantile(values: list[float], fraction: float) -> float:
    """Linear interpolation between the two nearest ranks."""
    ranked = sorted(values)
    position = fraction * (len(ranked) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (position - low) * (ranked[high] - ranked[low])


def heatmap(contributions: Doubles, percentile: float) -> Doubles:
    """(H, W) -> (H, W, 3), blue - white - red."""
    height, width = contributions.shape
    sizes = [abs(c) for c in contributions.reshape(-1).tolist()]
    limit = quantile(sizes, percentile / 100) or max(sizes)
    out = np.ones((height, width, 3))
    for i in range(height):
        for j in range(width):
            c = float(contributions[i, j])
            v = max(-1.0, min(1.0, c / limit)) if limit else 0.0
            out[i, j] = (1, 1 - v, 1 - v) if v >= 0 else (1 + v, 1 + v, 1)
    return out


def columns(values: Doubles, group: int) -> list[tuple[float, float, float]]:
    """(L,) -> least, greatest and sum of each `group` neighbours; the last may have fewer."""
    found = []
    for start in range(0, len(values), group):
        part = [float(v) for v in values[start : start + group]]
        found.append((min(part), max(part), math.fsum(part)))
    return found


def folded(weights: Doubles, inputs: Doubles) -> Doubles:
    """(2C, L) twice -> (C, L): what a channel and its inverse contribute together."""
    half = len(weights) // 2
    out = np.zeros((half, weights.shape[1]))
    for c in range(half):
        for t in range(weights.shape[1]):
            out[c, t] = weights[c, t] * inputs[c, t] + weights[c + half, t] * inputs[c + half, t]
    return out
