"""Whether a map adds up: what its sum and the constants leave of the value that it explains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.wide import wide

__all__ = ["METRICS", "residual"]


def residual(
    maps: Tensor, constants: Tensor | float | Mapping[str, Tensor], values: Tensor, *, floor: float = 1.0
) -> Tensor:  # fmt: skip
    """What a map leaves of the value that it explains, relative to the value.

    `|Σ A + constants - f| / max(|f|, floor)`: completeness (Sundararajan et al., arXiv 1703.01365, proposition 1) as a size,
    where others give yes or no. It is a check of arithmetic and no rank of methods: any map passes once it is rescaled.

    Args:
        maps: (N, *S), of contributions.
        constants: (N,) or one number: what belongs to no pixel (the value at the baseline, biases); or each by its name, as
            `Explanation.constants` has them (of one target: `{name: c[:, 0] for name, c in e.constants.items()}`).
        values: (N,), the logits f.
        floor: a value below it counts as large as it: near 0 a relative error says nothing. In units of the value.

    Returns:
        (N,), at least 0; in float64 if the maps or the values are, else in float32. Sums are float64.

    Raises:
        ArgumentTypeError: an argument is no tensor.
        InputError: shapes do not fit, a number is not finite, or the floor is not positive.

    >>> maps = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    >>> residual(maps, -1.0, torch.tensor([2.0, 4.0]))
    tensor([0.0000, 0.5000])
    """
    maps = check_maps(maps)
    if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 < floor < float("inf"):
        raise InputError(f"floor is a positive number, not {floor!r}.")
    value = _numbers(values, maps, "values")
    named = constants if isinstance(constants, Mapping) else {"constants": constants}
    total = wide(maps).flatten(1).sum(1)
    for name, constant in named.items():
        total = total + _numbers(constant, maps, f"{name!r}" if isinstance(constants, Mapping) else name)
    dtype = torch.float64 if torch.float64 in (maps.dtype, getattr(values, "dtype", None)) else maps.dtype
    return ((total - value).abs() / value.abs().clamp(min=floor)).to(dtype)


def _numbers(given: object, maps: Tensor, name: str) -> Tensor:
    """(N,) in float64, or one number for all."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = torch.tensor(float(given), dtype=torch.float64)
    if not isinstance(given, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor (N,), a number an image, not {type(given).__name__}.")
    if given.shape not in ((), (len(maps),)) or given.is_complex():
        raise InputError(f"{name} must be ({len(maps)},), a real number an image, not {tuple(given.shape)} of {given.dtype}.")
    given = wide(given.detach().to(maps.device))
    if not bool(given.isfinite().all()):
        raise InputError(f"{name} has numbers that are not finite (NaN or infinity): no residual is defined.")
    return given


METRICS = (
    Metric(
        name="residual",
        function=residual,
        summary="What a map's sum and the constants leave of the logit, relative to the logit.",
        best="low",
        range="[0, ∞); exact 0, uniform anything",
        needs="maps, constants, logits",
        cost="0",
        source="Sundararajan et al. 2017, arXiv 1703.01365",
        verified="twin, closed form",
        blind="A property of the sum: any map passes once it is rescaled, as live input × gradient of a B-cos network does.",
    ),
)
