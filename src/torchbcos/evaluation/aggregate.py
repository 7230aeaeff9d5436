"""AggAtt: what the best, the usual and the worst maps of a method look like on average (Rao et al. 2022, arXiv 2205.10435)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.numbers import real
from torchbcos.metrics.checks import check_maps, check_masks

__all__ = ["EDGES", "Bin", "aggregate"]

EDGES = (0, 2, 5, 50, 95, 98, 100)  # in percent
_FEW = 5  # maps whose mean still shows single maps
_PART = 1 << 22  # pixels that are added at a time


@dataclass(frozen=True)
class Bin:
    """Maps of similar scores, averaged.

    Attributes:
        start, stop: its place among all maps, in percent; the best map is at 0.
        items: (count,) int64, which maps these are, the best first.
        best, worst: scores of its first and its last map; NaN where that is undefined, or there is none.
        map: (H, W) float64, the mean of the maps, each in units of its own maximum; None where there is none.
    """

    start: float
    stop: float
    items: Tensor
    best: float
    worst: float
    map: Tensor | None

    @property
    def name(self) -> str:
        """Its place in words: "2–5 %"."""
        return f"{self.start:g}–{self.stop:g} %"

    @property
    def note(self) -> str:
        """What to know of a bin of few maps; empty for others."""
        count = len(self.items)
        if not count:
            return f"{self.name} holds no map: there are too few for this bin."
        return f"{self.name} holds {count} map{'s' * (count > 1)}: its mean shows single maps." if count < _FEW else ""


def aggregate(
    maps: Tensor, scores: Tensor, *, inside: Tensor | None = None, signed: bool = False, edges: Sequence[float] = EDGES
) -> tuple[Bin, ...]:
    """Maps, sorted from the highest score to the lowest, cut into bins and averaged (arXiv 2205.10435).

    Each map is divided by its own maximum, so that no picture outshines the others. All maps should have their object, or their
    cell of a grid, in the same place: give those of one cell.

    Args:
        maps: (N, H, W), signed.
        scores: (N,), high is good; NaN where undefined: these maps are the last.
        inside: (N, H, W) bool, where the evidence should be. Of equal scores the map with more positive evidence there comes
            first, as published; else, and if it has as much, the one that was given first.
        signed: average positive and negative evidence, in units of the largest magnitude; else, as published, what is positive.
        edges: of the bins, in percent. A bin from p to q holds the maps floor(N·p/100) to floor(N·q/100) - 1, so bins may be
            empty where maps are few: `Bin.note` says so.

    Returns:
        The bins, the best maps first.

    Raises:
        ArgumentTypeError: something is no tensor.
        InputError: shapes do not fit, a map is not finite, or edges do not rise from 0 to 100.

    >>> maps = torch.eye(4).view(4, 2, 2)
    >>> best, worst = aggregate(maps, torch.tensor([0.1, 0.9, float("nan"), 0.5]), edges=(0, 50, 100))
    >>> best.name, best.items.tolist(), best.best, best.worst, worst.items.tolist()
    ('0–50 %', [1, 3], 0.8999999761581421, 0.5, [0, 2])
    >>> best.map
    tensor([[0.0000, 0.5000],
            [0.0000, 0.5000]], dtype=torch.float64)
    """
    maps = check_maps(maps)
    if maps.dim() != 3:
        raise InputError(f"maps must be (N, H, W), not {tuple(maps.shape)}.")
    scores, bounds = _checked_scores(scores, len(maps)), _checked_edges(edges)
    order = _order(maps, scores, inside)
    places = [math.floor(len(maps) * bound / 100 + 1e-9) for bound in bounds]
    found = []
    for i, (first, last) in enumerate(pairwise(places)):
        items = order[first:last]
        best, worst = (float(scores[items[end]]) if len(items) else math.nan for end in (0, -1))
        found.append(Bin(bounds[i], bounds[i + 1], items, best, worst, _mean(maps, items, signed)))
    return tuple(found)


def _order(maps: Tensor, scores: Tensor, inside: Tensor | None) -> Tensor:
    """(N,) int64 on the CPU, the best map first."""
    order = torch.arange(len(maps))
    if inside is not None:
        masks = check_masks(inside, maps, "inside")
        masses = torch.stack([one[mask].double().clamp_min(0).sum() for one, mask in zip(maps, masks, strict=True)])
        order = masses.cpu().argsort(descending=True, stable=True)
    ranked = scores.nan_to_num(-math.inf, math.inf, -math.inf)
    return order[ranked[order].argsort(descending=True, stable=True)]


def _mean(maps: Tensor, items: Tensor, signed: bool) -> Tensor | None:
    if not len(items):
        return None
    total = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for part in torch.split(items, max(1, _PART // maps[0].numel())):
        chosen = maps[part.to(maps.device)].cpu().double()
        chosen = chosen if signed else chosen.clamp_min(0)
        largest = chosen.abs().amax((1, 2), keepdim=True)
        total += (chosen / torch.where(largest > 0, largest, 1.0)).sum(0)
    return total / len(items)


def _checked_scores(scores: object, count: int) -> Tensor:
    """(N,) float64 on the CPU."""
    if not isinstance(scores, Tensor):
        raise ArgumentTypeError(f"scores must be a tensor (N,), not {type(scores).__name__}: torch.as_tensor(scores).")
    if scores.shape != (count,) or scores.is_complex():
        raise InputError(f"scores must be ({count},), one real number a map, not {tuple(scores.shape)} of {scores.dtype}.")
    return scores.detach().to("cpu", torch.float64)


def _checked_edges(edges: object) -> list[float]:
    found = [real(one) for one in edges] if isinstance(edges, Sequence) and not isinstance(edges, str) else []
    known = [one for one in found if one is not None]
    rising = len(known) == len(found) > 1 and all(a < b for a, b in pairwise(known))
    if not rising or known[0] != 0 or known[-1] != 100:
        raise InputError(f"edges are percentages that rise from 0 to 100, {EDGES} say, not {edges!r}.")
    return known
