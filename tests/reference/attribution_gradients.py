"""Gradient methods written from their papers: every derivative a difference of two runs, every sum a loop, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["difference", "expected_gradients", "integrated", "reduce_colours", "smoothed"]

Score = Callable[[Tensor], float]  # one image (C, *S) -> the number that is explained
_STEP = 1e-5


def difference(f: Score, x: Tensor) -> Tensor:
    """∂f/∂x by central differences, one number of the image after the other."""
    found = torch.zeros_like(x, dtype=torch.float64)
    for place in range(x.numel()):
        up, down = x.clone().reshape(-1), x.clone().reshape(-1)
        up[place] += _STEP
        down[place] -= _STEP
        found.reshape(-1)[place] = (f(up.reshape(x.shape)) - f(down.reshape(x.shape))) / (2 * _STEP)
    return found


def integrated(f: Score, x: Tensor, base: Tensor, steps: int) -> Tensor:
    """Sundararajan et al. 2017, eq. 1, as a Riemann sum of midpoints."""
    total = torch.zeros_like(x)
    for j in range(steps):
        total += difference(f, base + (j + 0.5) / steps * (x - base)) / steps
    return (x - base) * total


def smoothed(f: Score, x: Tensor, noise: Sequence[Tensor], sigma: float) -> Tensor:
    """Smilkov et al. 2017: the mean gradient of x plus noise whose standard deviation is a part of x's range.

    Colours get the noise; of an encoded picture the other half of the channels is one minus them.
    """
    wide = max(x.reshape(-1).tolist()) - min(x.reshape(-1).tolist())
    total = torch.zeros_like(x)
    for one in noise:
        total += difference(f, _moved(x, one * sigma * wide)) / len(noise)
    return total


def expected_gradients(f: Score, x: Tensor, base: Tensor, places: Sequence[float], noise: Sequence[Tensor]) -> Tensor:
    """Lundberg and Lee 2017, as Captum samples it: the mean of (x' - b) times the gradient between b and x'."""
    total = torch.zeros_like(x)
    for place, one in zip(places, noise, strict=True):
        copy = _moved(x, one)
        total += (copy - base) * difference(f, base + place * (copy - base)) / len(places)
    return total


def reduce_colours(gradient: Tensor, encoded: bool, how: str) -> Tensor:
    """(*S): the gradient with respect to each colour of a pixel, and one number of them."""
    channels, *space = gradient.shape
    flat = gradient.reshape(channels, -1)
    found = torch.zeros(flat.shape[1], dtype=torch.float64)
    for p in range(flat.shape[1]):
        colours = [float(flat[c, p]) for c in range(channels)]
        if encoded:
            half = channels // 2
            colours = [colours[c] - colours[c + half] for c in range(half)]
        if how == "max":
            found[p] = max(abs(c) for c in colours)
        elif how == "l2":
            found[p] = math.sqrt(sum(c * c for c in colours))
        else:
            found[p] = sum(colours)
    return found.reshape(space)


def _moved(x: Tensor, noise: Tensor) -> Tensor:
    half = len(x) // 2
    if len(x) % 2 == 0 and half and bool(((x[:half] + x[half:] - 1).abs() < 1e-6).all()):
        return torch.cat([x[:half] + noise[:half], 1 - (x[:half] + noise[:half])])
    return x + noise
