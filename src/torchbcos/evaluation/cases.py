"""Pictures of a comparison: the best and the worst cases, and average maps of what lies between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError

__all__ = ["PERCENTS", "Average", "Case", "Cases", "Picture", "average_maps"]

PERCENTS = (0, 2, 5, 50, 95, 98, 100)  # Rao et al. 2022, arXiv 2205.10435, section 4 (AggAtt)

Picture = Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One item: what went in, the map as it is drawn, and its number."""

    name: str
    value: float
    picture: Picture
    map: Picture
    note: str = ""


@dataclass(frozen=True)
class Average:
    """The average map of the items between two percentiles of the score, best first: `AggAtt` of Rao et al.

    Attributes:
        first: percent of items that are better.
        last: percent of items up to here.
        count: of items.
        low: lowest score among them.
        high: highest.
        map: (H, W), the mean of their maps, each divided by its largest magnitude. As a picture, `drawn`.
        drawn: the map as it is shown.
    """

    first: float
    last: float
    count: int
    low: float
    high: float
    map: Tensor = field(repr=False)
    drawn: Picture | None = None


@dataclass(frozen=True)
class Cases:
    """The pictures of one model, method and metric, all by their labels.

    Attributes:
        best: best first.
        worst: worst first.
        averages: from the best items to the worst.
    """

    model: str
    method: str
    metric: str
    best: Sequence[Case] = ()
    worst: Sequence[Case] = ()
    averages: Sequence[Average] = ()


def average_maps(
    maps: Tensor, scores: Tensor, *, mass: Tensor | None = None, low: bool = False, percents: Sequence[float] = PERCENTS
) -> list[Average]:
    """Average maps of items with similar scores, from the best to the worst.

    Items are sorted by score; each bin holds those between two percentiles of their number, rounded to whole items. Bins at both
    ends are small: there are the items that make or break a method. With few items some bins are empty, and left out.

    Args:
        maps: (N, H, W), any scale; each is divided by its largest magnitude, so that no item outweighs the others.
        scores: (N,); items whose score is NaN come last.
        mass: (N,), decides between equal scores: the positive mass inside, say; None: the order given.
        low: a low score is good.
        percents: bounds of the bins, rising from 0 to 100.

    Returns:
        An `Average` for each bin that holds an item.

    Raises:
        InputError: shapes or bounds do not fit.

    Source: Rao, Böhle, Schiele 2022, arXiv 2205.10435, section 4.

    >>> [(one.count, one.high) for one in average_maps(torch.rand(100, 4, 4), torch.arange(100.0))]
    [(2, 99.0), (3, 97.0), (45, 94.0), (45, 49.0), (3, 4.0), (2, 1.0)]
    """
    if maps.dim() != 3 or scores.shape != maps.shape[:1] or (mass is not None and mass.shape != scores.shape):
        raise InputError(f"Averages need maps (N, H, W) and one score a map, got {tuple(maps.shape)} and {tuple(scores.shape)}.")
    if list(percents) != sorted(set(percents)) or len(percents) < 2 or (percents[0], percents[-1]) != (0, 100):
        raise InputError(f"percents must rise from 0 to 100, got {list(percents)}.")
    worth = (-scores.double() if low else scores.double()).nan_to_num(float("-inf"), float("inf"), float("-inf"))
    order = torch.arange(len(scores)) if mass is None else mass.double().cpu().argsort(descending=True, stable=True)
    order = order[worth.cpu()[order].argsort(descending=True, stable=True)]
    largest = maps.double().abs().amax((1, 2), keepdim=True)
    even = torch.where(largest > 0, maps.double() / largest.clamp_min(torch.finfo(torch.float64).tiny), 0.0).cpu()
    found = []
    for first, last, chosen in _bins(order, percents):
        own = scores.double().cpu()[chosen]
        there = own[~own.isnan()]
        ends = (float(there.min()), float(there.max())) if len(there) else (float("nan"), float("nan"))
        found.append(Average(first, last, len(chosen), *ends, even[chosen].mean(0)))
    return found


def _bins(order: Tensor, percents: Sequence[float]) -> list[tuple[float, float, Tensor]]:
    """Items between the percentiles: every item in one bin, bins without an item left out."""
    places = [round(len(order) * percent / 100) for percent in percents]
    bins = zip(percents, percents[1:], places, places[1:], strict=False)
    return [(first, last, order[start:end]) for first, last, start, end in bins if end > start]
