"""When an explanation is complete: what it says of a value adds up to that value, but for rounding.

This is the one place that says so. Panels, records, the command line, exports and `torchbcos.testing` ask here.

Shapes: N images, K targets, *S space.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["precision_here", "unit_of", "usual_tolerance"]

_USUAL = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF = 5e-2
# A product of TF32 keeps 11 bits of each factor, where float32 keeps 24. This is fifty times the bound of float32, far above what
# such roundings add up to in a deep network, and far below what a forgotten bias is worth.
_TF32 = 5e-3


def usual_tolerance(*dtypes: torch.dtype) -> float:
    """How far a sum of such numbers may miss its value, in units of `unit_of`: that of the coarsest.

    >>> usual_tolerance(torch.float32), usual_tolerance(torch.float32, torch.bfloat16)
    (0.0001, 0.05)
    """
    return max(_USUAL.get(dtype, _HALF) for dtype in dtypes)


def precision_here(x: Tensor) -> float:
    """The tolerance of what a network computes from `x` here and now: autocast and TF32 round more than the dtype says."""
    usual, kind = usual_tolerance(x.dtype), x.device.type
    if torch.is_autocast_enabled(kind):
        return _HALF
    if x.dtype is not torch.float32:
        return usual
    try:
        matrices, convolutions = torch.get_float32_matmul_precision(), kind == "cuda" and torch.backends.cudnn.allow_tf32
    except RuntimeError:  # set in torch's newer words, which the older ones do not read
        return _TF32
    return _HALF if matrices == "medium" else _TF32 if matrices == "high" or convolutions else usual


def unit_of(values: Tensor, contributions: Tensor, constants: Iterable[Tensor]) -> Tensor:
    """In what a residual is measured: `max(1, |value|, 0.1·(Σ|contributions| + Σ|constants|))`, (N, K) in float64.

    Large terms that cancel leave the rounding of large numbers behind.

    Args:
        values: (N, K).
        contributions: (N, K, *S); (N, K) of inputs without space.
        constants: each (N, K).

    >>> unit_of(torch.tensor([[0.5]]), torch.tensor([[[30.0, -29.5]]]), []).item()
    5.95
    """
    wide = torch.float64 if values.device.type != "mps" else torch.float32
    # target by target: the sizes of a thousand targets need not stand in memory together
    size = torch.stack([c.detach().to(wide).abs().reshape(len(c), -1).sum(1) for c in contributions.unbind(1)], 1)
    for constant in constants:
        size = size + constant.detach().to(wide).abs()
    return torch.maximum(values.detach().to(wide).abs().clamp_min(1), 0.1 * size)
