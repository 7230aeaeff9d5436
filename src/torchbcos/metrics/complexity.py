"""How concentrated a map is: Gini coefficient and entropy of magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.wide import wide

__all__ = ["METRICS", "entropy", "gini"]


def gini(maps: Tensor) -> Tensor:
    """How unequally a map's magnitudes are spread over its pixels: 0 for all equal, 1 - 1/P for one pixel alone.

    `Σ (2i - P - 1) a_i / (P Σ a_i)` with the magnitudes a of the P pixels in rising order, i from 1 (Chalasani et al.,
    arXiv 1810.06583). The sign of a map and its scale do not matter.

    Args:
        maps: (N, *S).

    Returns:
        (N,), in float64 if the maps are, else in float32. NaN for a map of zeros.

    Raises:
        InputError: a number is not finite.

    >>> gini(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([0.2500, 0.7500,    nan])
    """
    maps = check_maps(maps)
    values = _magnitudes(maps).sort(1).values
    count = values.shape[1]
    places = torch.arange(1, count + 1, device=values.device, dtype=values.dtype)
    return ((2 * places - count - 1) * values).sum(1).div(count * values.sum(1)).to(maps.dtype)


def entropy(maps: Tensor) -> Tensor:
    """Entropy of a map's magnitudes as shares of their sum, in nats: ln P for all P pixels equal, 0 for one pixel alone.

    `-Σ p ln p`, p = |A| / Σ |A| (Bhatt et al., arXiv 2005.00631). The sign of a map and its scale do not matter.

    Args:
        maps: (N, *S).

    Returns:
        (N,), in float64 if the maps are, else in float32. NaN for a map of zeros.

    Raises:
        InputError: a number is not finite.

    >>> entropy(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([1.2799, 0.0000,    nan])
    """
    maps = check_maps(maps)
    values = _magnitudes(maps)
    shares = values / values.sum(1, keepdim=True)
    found: Tensor = torch.special.entr(shares)
    return found.sum(1).to(maps.dtype)


def _magnitudes(maps: Tensor) -> Tensor:
    """(N, P), each map's largest magnitude 1, so that no sum overflows; NaN for a map of zeros."""
    values = wide(maps).flatten(1).abs()
    return values / values.amax(1, keepdim=True)


METRICS = (
    Metric(
        name="gini",
        function=gini,
        summary="How unequally a map's magnitudes are spread over its pixels.",
        best="neither",
        range="[0, 1 - 1/pixels]; uniform 0",
        needs="maps",
        cost="0",
        source="Chalasani et al. 2020, arXiv 1810.06583",
        verified="twin, closed form, Quantus 0.6 Sparseness",
        blind="It is no quality: a map that shows one wrong pixel is the sparsest. Resolution and smoothing change it.",
    ),
    Metric(
        name="entropy",
        function=entropy,
        summary="Entropy, in nats, of a map's magnitudes as shares of their sum.",
        best="neither",
        range="[0, ln pixels]; uniform ln pixels",
        needs="maps",
        cost="0",
        source="Bhatt et al. 2020, arXiv 2005.00631",
        verified="twin, closed form, Quantus 0.6 Complexity",
        blind="It is no quality: a map that shows one wrong pixel has none. Resolution and smoothing change it.",
    ),
)
