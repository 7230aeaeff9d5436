"""Whether probabilities come true: the calibration error, the bins behind it, and the temperature that mends most of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import positive_integer
from torchbcos._core.probability import SIGMOID, TEMPERATURES, probabilities
from torchbcos.metrics.answers import answers, check_examples, is_finite

__all__ = ["BINS", "ReliabilityBin", "calibration_error", "fit_temperature", "reliability"]

BINS = 15  # of the calibration error, as in the paper
_CHUNK = 2**20  # logits at a time: in float64 a million of them are 8 MB
_STEPS, _NEAR = 200, 1e-13  # every fourth step halves the bracket, so that 200 are never needed


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers of which a classifier was about as sure.

    Attributes:
        low, high: of their confidence, in [0, 1]; `low` belongs to the bin, and 1 to the last one.
        confidence: their mean; NaN where there are none.
        accuracy: the part that was right, in [0, 1]; NaN where there are none.
        count: how many there are.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def reliability(
    logits: Tensor, targets: Tensor, *, probability: str = SIGMOID, temperature: float | None = None, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """How often answers were right, by how sure they were: what a reliability diagram draws.

    Bins of equal width, those of the `ece` of `score` (Guo et al. 2017, arXiv 1706.04599): `ece` is the mean of
    |confidence - accuracy| over all answers. For one class each an answer is the highest class of an example. For several labels
    it is every label that is known to hold or not to hold; those that are soft or not known (NaN) are left out.

    Args:
        logits: (N, C).
        targets: (N,) int64 classes, or (N, C) labels in [0, 1] or NaN.
        probability: "sigmoid" or "softmax": how the network was trained; several labels are answered by their sigmoids.
        temperature: T > 0, which divides the logits; None: 1.
        bins: how many.

    Returns:
        All bins from the least to the most sure. Logits that are not finite have no answers: all bins are empty.

    Raises:
        InputError: as `score`; `bins` is no positive integer; `temperature` is no positive number.

    >>> import torch
    >>> found = reliability(torch.tensor([[4.0, -4.0], [-4.0, 4.0]]), torch.tensor([0, 0]), bins=2)
    >>> [(one.low, one.high, round(one.confidence, 3), one.accuracy, one.count) for one in found]
    [(0.0, 0.5, nan, nan, 0), (0.5, 1.0, 0.982, 0.5, 2)]
    """
    check_examples(logits, targets)
    probabilities(logits[:0], probability)  # refuses other kinds
    count = positive_integer(bins)
    if count is None:
        raise InputError(f"bins must be a positive integer, not {bins!r}.")
    logits, targets = logits.cpu().double(), targets.cpu()
    if temperature is not None:
        if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
            raise InputError(f"temperature must be a positive number, not {temperature!r}.")
        logits = logits / temperature
    nothing = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
    confidence, right = answers(logits, targets, probability) if is_finite(logits) else nothing
    edges = _edges(count).tolist()
    rows = zip(edges[:-1], edges[1:], *(part.tolist() for part in _sums(confidence, right, count)), strict=True)
    return tuple(
        ReliabilityBin(low, high, sure / n if n else math.nan, good / n if n else math.nan, int(n))
        for low, high, sure, good, n in rows
    )


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error in percent: how far confidence and frequency are apart in bins of equal width.

    Args:
        confidence: (M,) float64 in [0, 1].
        right: (M,) 0 or 1.
    """
    sure, good, _ = _sums(confidence, right, BINS)
    return 100 * float((sure - good).abs().sum()) / len(confidence)


def _edges(bins: int) -> Tensor:
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64)


def _sums(confidence: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of every bin the sum of confidence, the right answers, and all answers."""
    places = torch.bucketize(confidence, _edges(bins)[1:-1], right=True)  # the last bin includes 1
    zeros = torch.zeros(bins, dtype=torch.float64)
    added = (confidence, right.double(), torch.ones_like(confidence))
    sure, good, count = (zeros.index_add(0, places, values) for values in added)
    return sure, good, count


def fit_temperature(logits: Tensor, targets: Tensor, *, probability: str = SIGMOID) -> float:
    """The temperature T under which the targets are likeliest: probabilities are those of logits / T.

    It minimises the negative log-likelihood over the one number T (Guo et al. 2017, arXiv 1706.04599, section 4.2), in float64:
    for "softmax" -log softmax(z/T)[y], for "sigmoid", and for several labels, binary cross-entropy summed over the classes. As
    a function of 1/T both are convex: the root of their slope is found by Newton's steps within a bracket that shrinks. One T
    for all logits changes neither the order of classes nor the side of one half on which a sigmoid lies.

    Args:
        logits: (N, C), of examples that the network was not trained on.
        targets: (N,) int64 classes, or (N, C) labels in [0, 1] (soft ones count as such); NaN is left out.
        probability: "sigmoid" or "softmax": how the network was trained.

    Returns:
        T within `TEMPERATURES`, 0.01 to 100, which is what a card may hold. Where every answer is right (of sigmoids: every
        class is on its side of one half) the likelihood grows without end as T falls, and T is 0.01; where answers are no
        better than guesses it is 100: such a bound says only that this data has no best T. Logits that are all alike leave T
        at 1; logits that are not finite have none (NaN).

    Raises:
        InputError: as `score`; or no label is known.

    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0]]).repeat(4, 1)  # sure to 88 %, right in three of four
    >>> T = fit_temperature(z, torch.tensor([0, 0, 0, 1]), probability="softmax")
    >>> round(float((z / T).softmax(1)[0, 0]), 6)
    0.75
    """
    check_examples(logits, targets)
    probabilities(logits[:0], probability)  # refuses other kinds
    logits, targets = logits.detach().cpu().double(), targets.cpu()
    if targets.dim() > 1 and not bool((targets == targets).any()):
        raise InputError("No label of these examples is known: there is nothing to fit a temperature to.")
    if not is_finite(logits):
        return math.nan
    shared = targets.dim() == 1 and probability != SIGMOID
    if shared:  # against the right class: what all classes have in common cancels, also in the largest logits
        logits = logits - logits.gather(1, targets.long()[:, None])
    scale = float(logits.abs().max())
    if not 0 < scale < math.inf:
        return 1.0 if scale == 0 else math.nan
    logits = logits / scale  # their squares stay finite
    rows = max(1, _CHUNK // logits.shape[1])
    parts = list(zip(torch.split(logits, rows), torch.split(targets, rows), strict=True))  # type: ignore[no-untyped-call]
    slope = _slope_of_softmax if shared else _slope_of_sigmoids
    low, high = TEMPERATURES
    if _summed(slope, parts, scale / low)[0] <= 0:
        return low
    if _summed(slope, parts, scale / high)[0] >= 0:
        return high
    return min(max(scale / _root(lambda beta: _summed(slope, parts, beta), scale / high, scale / low, scale), low), high)


_Slope = Callable[[Tensor, Tensor, float], Tensor]


def _summed(slope: _Slope, parts: list[tuple[Tensor, Tensor]], beta: float) -> tuple[float, float]:
    first, second = torch.stack([slope(z, y, beta) for z, y in parts]).sum(0).tolist()
    return first, second


def _slope_of_softmax(z: Tensor, _: Tensor, beta: float) -> Tensor:
    """First and second derivative of the sum of -log softmax(beta z) of the right class, against which z is: mean, variance."""
    p = (beta * z).softmax(1)
    mean = (p * z).sum(1)
    return torch.stack([mean.sum(), (p * (z - mean[:, None]).square()).sum()])


def _slope_of_sigmoids(z: Tensor, y: Tensor, beta: float) -> Tensor:
    """First and second derivative of the sum of the binary cross-entropies of sigmoid(beta z)."""
    if y.dim() == 1:
        y = torch.zeros_like(z).scatter(1, y.long()[:, None], 1.0)
    p = (beta * z).sigmoid()
    each = torch.stack([(p - y) * z, p * (1 - p) * z.square()])
    return torch.where(y == y, each, 0.0).sum((1, 2))  # NaN: not known


def _root(slope: Callable[[float], tuple[float, float]], low: float, high: float, start: float) -> float:
    """Where a slope that never falls is zero, between where it is negative and where it is positive."""
    beta = start
    for step in range(1, _STEPS + 1):
        first, second = slope(beta)
        low, high = (beta, high) if first < 0 else (low, beta)
        newton = beta - first / second if second > 0 else math.nan
        if abs(newton - beta) <= _NEAR * beta or high - low <= _NEAR * high:
            return newton if low <= newton <= high else beta
        beta = newton if low < newton < high and step % 4 else math.sqrt(low * high)
    return beta
