"""The paper's picture of W(x): colour says what the weights look for, opacity how strongly.

Shapes: C channels, the first half colours and the second their inverses (r, g, b, 1-r, 1-g, 1-b; or x, 1-x), H W space.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.numbers import integer
from torchbcos.rendering._checks import Floats, check_percentile, real_tensor, upper_limit

__all__ = ["rgba"]

_EPS = 1e-12  # the paper's code guards both divisions of the colour with it


def rgba(weights: Tensor, inputs: Tensor, *, smooth: int = 15, percentile: float = 99.5) -> Floats:
    """Draw the dynamic weights of one image and one target as colour and opacity.

    With c = sum over channels of W·x and A = max(W, 0) / (max_ch |W| + 1e-12):
    colour = A[r,g,b] / (A[r,g,b] + A[1-r,1-g,1-b] + 1e-12); opacity = ‖W‖ over channels, 0 where c < 0,
    averaged over a `smooth` by `smooth` window, divided by its `percentile` and cut at 1
    (Böhle et al. 2024, arXiv 2306.10898). The average counts only pixels inside the picture, so the border is as opaque as the
    rest. A grey picture has one pair, (x, 1-x), and the same formula gives its tone, which is our generalisation: white where
    the weights look for bright pixels, black where they look for dark ones. Evidence that is negative everywhere, and weights
    of zero, are transparent.

    Args:
        weights: W(x), (6, H, W) or (2, H, W), any real dtype.
        inputs: The encoded picture x, of the same shape.
        smooth: Side of the averaging window in pixels; 0 or 1: none. An even window gives its two outer pixels half
            a weight, so that the picture does not move.
        percentile: Opacity at and above this percentile is drawn as 1; in (0, 100].

    Returns:
        (H, W, 4) float32 in [0, 1], never NaN; alpha is not multiplied into the colour. A grey picture's three colours are equal.

    Raises:
        InputError: Wrong shape, NaN, or an argument out of range.
        ArgumentTypeError: Not tensors, or `smooth` is no int.

    Example:
        >>> x = torch.rand(6, 8, 8)
        >>> rgba(x, x, smooth=3).shape
        (8, 8, 4)
    """
    _check_smooth(smooth)
    check_percentile(percentile)
    w, x = real_tensor(weights, "weights"), real_tensor(inputs, "inputs")
    _check_shapes(w, x)
    w = _unit_range(w)
    evidence = (_unit_range(x).to(w.device) * w).sum(0)
    alpha = torch.where(evidence < 0, 0.0, torch.linalg.vector_norm(w, dim=0))
    opacity = _average(alpha, smooth).float().cpu().numpy()
    limit = upper_limit(opacity, percentile)
    if limit > 0:
        opacity = np.minimum(opacity, limit) / limit  # this order cannot overflow
    colour = _colour(w).float().cpu().numpy()
    return np.concatenate([colour, opacity[None]]).transpose(1, 2, 0).astype(np.float32, order="C")


def _check_smooth(smooth: int) -> None:
    if integer(smooth) is None:
        raise ArgumentTypeError(f"smooth must be an int (pixels), got {type(smooth).__name__}.")
    if smooth < 0:
        raise InputError(f"smooth must be 0 or more pixels, got {smooth}.")


def _check_shapes(weights: Tensor, inputs: Tensor) -> None:
    if weights.shape != inputs.shape:
        raise InputError(f"weights and inputs must have one shape, got {tuple(weights.shape)} and {tuple(inputs.shape)}.")
    if weights.ndim != 3:
        raise InputError(
            f"rgba draws one image and one target: expected (6, H, W), got {tuple(weights.shape)}. "
            "A grey picture has (2, H, W). Pick one with weights[i, k] and inputs[i]; for other inputs use "
            "heatmap(contributions)."
        )
    if weights.shape[0] not in (2, 6):
        raise InputError(
            f"rgba needs the six channels r, g, b, 1-r, 1-g, 1-b, or the two x, 1-x of a grey picture, got {weights.shape[0]} "
            "channels. The weights of other inputs, such as an ordinary network's pixels, say no colour: use "
            "heatmap(contributions); of an explanation e.heatmap(), or e.panel() with its photo."
        )


def _unit_range(t: Tensor) -> Tensor:
    """`t` times the power of two that brings its largest magnitude near 1.

    The picture does not depend on a positive factor; without it squares of tiny or huge weights would leave float32
    and the epsilon of the colour would turn tiny weights black. A power of two rounds nothing.
    """
    exponent = math.frexp(float(t.abs().max()))[1]
    bound = 1022 if t.dtype == torch.float64 else 126  # the factor itself must be a normal number
    return t * 2.0 ** -max(min(exponent, bound), -bound)


def _colour(w: Tensor) -> Tensor:
    """(3, H, W): how much of each channel pair points at the colour rather than at its inverse; of one pair three times."""
    wanted, inverse = (w / (w.abs().amax(0) + _EPS)).clamp(min=0).chunk(2)
    return (wanted / (wanted + inverse + _EPS)).expand(3, -1, -1)


def _average(alpha: Tensor, smooth: int) -> Tensor:
    """(H, W): mean over a centred window, counting only pixels inside the picture."""
    if smooth <= 1:
        return alpha
    ones = torch.ones_like(alpha)
    for axis in (0, 1):
        # a window of 2·size reaches every pixel from everywhere; beyond that the result stays the same
        window = min(smooth, 2 * alpha.shape[axis] + smooth % 2)
        alpha = _window_sum(alpha, window, axis) / _window_sum(ones, window, axis)
    return alpha


def _window_sum(t: Tensor, window: int, axis: int) -> Tensor:
    """Sums along one axis, zeros outside; an even window is the mean of the odd ones beside it."""
    odd = [window] if window % 2 else [window - 1, window + 1]
    sums = torch.zeros_like(t)
    for size in odd:
        kernel, padding = ((size, 1), (size // 2, 0)) if axis == 0 else ((1, size), (0, size // 2))
        sums += F.avg_pool2d(t[None], kernel, 1, padding)[0] * (size / len(odd))
    return sums
