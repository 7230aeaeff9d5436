"""Pictures of a comparison: the best and the worst cases, and average maps of what lies between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from torchbcos.evaluation.aggregate import Bin

__all__ = ["Average", "Case", "Cases", "Picture"]

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
    """The average map of items of similar scores, as it is drawn.

    Attributes:
        bin: which items they are.
        low: lowest score among them.
        high: highest.
        drawn: the map.
    """

    bin: Bin
    low: float
    high: float
    drawn: Picture


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
