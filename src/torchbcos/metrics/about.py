"""What is known of a metric: what users read before they believe its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Metric"]


@dataclass(frozen=True)
class Metric:
    """One metric of `METRICS`.

    Attributes:
        name: as `torchbcos evaluate` calls it.
        function: computes it: one number an example, NaN where it is undefined. None: a program does (docs name it).
        summary: one sentence: what the number is.
        best: "high", "low", or "neither" (it describes, and no value of it is better).
        range: the values it can have, and what a map without information gets: "[0, 1]; uniform 1/n²".
        needs: what must be at hand: "masks", "grids", "predict", "explain", "the model".
        cost: passes through the network for one image and one target: "0", "cells² + 1", "50".
        source: the paper, and its equation where it has one.
        verified: what it was checked against: "twin, closed form, Captum 0.9".
        blind: what it does not see (docs/explanation/metrics.md), in one sentence.
    """

    name: str
    function: Callable[..., Any] | None
    summary: str
    best: str
    range: str
    needs: str
    cost: str
    source: str
    verified: str
    blind: str
