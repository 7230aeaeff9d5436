"""One number an image, summed up: means, percentiles, and how many images have none."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.wide import wide

__all__ = ["PERCENTILES", "summary"]

PERCENTILES = (5, 25, 50, 75)


def summary(values: Tensor) -> dict[str, Tensor]:
    """What is to be printed of a metric: a mean alone hides mixtures of 0 and 1, and images that have no number.

    Args:
        values: (N,), NaN for an image in which the metric is undefined. N may be 0.

    Returns:
        Tensors without axes, on the device of the values: "mean" (an undefined image counts as 0: of a metric that is good if
        high, nobody gains by having none; of one that is good if low, look at the next), "mean_defined", "n" (all images),
        "undefined" (how many), and "p5", "p25", "p50", "p75": percentiles of those that are defined, in float64. What needs an
        image and has none is NaN.

    Raises:
        ArgumentTypeError: `values` is no tensor.
        InputError: it has other axes, or no real numbers.

    >>> found = summary(torch.tensor([1.0, 0.5, float("nan"), 0.0]))
    >>> {name: round(float(value), 3) for name, value in found.items()}
    {'mean': 0.375, 'mean_defined': 0.5, 'n': 4.0, 'undefined': 1.0, 'p5': 0.05, 'p25': 0.25, 'p50': 0.5, 'p75': 0.75}
    """
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"values must be a tensor (N,), not {type(values).__name__}.")
    if values.dim() != 1 or values.is_complex():
        raise InputError(f"values must be (N,), one real number an image, not {tuple(values.shape)} of {values.dtype}.")
    values = wide(values.detach())
    defined = values[~values.isnan()].sort().values
    return {
        "mean": values.nan_to_num(0.0, torch.inf, -torch.inf).mean(),
        "mean_defined": defined.mean(),
        "n": torch.tensor(len(values), device=values.device),
        "undefined": torch.tensor(len(values) - len(defined), device=values.device),
        **{f"p{share}": _percentile(defined, share / 100) for share in PERCENTILES},
    }


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """Between the two numbers around the place, as NumPy has it; `torch.quantile` ends at 16 million numbers."""
    if not len(ordered):
        return ordered.new_tensor(torch.nan)
    place = share * (len(ordered) - 1)
    low = ordered[int(place)]
    high = ordered[min(int(place) + 1, len(ordered) - 1)]
    weight = place - int(place)
    return low if weight == 0 or bool(low == high) else low * (1 - weight) + high * weight
