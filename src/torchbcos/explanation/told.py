"""The numbers of one image and one target, as JSON can hold them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from torchbcos.explanation.result import Explanation

__all__ = ["record_of"]


def record_of(e: Explanation, i: int, k: int) -> dict[str, Any]:
    """All numbers but the maps; see `Explanation.to_dict`."""
    index = int(e.targets[i, k])
    record: dict[str, Any] = {
        "index": index,
        "label": e.label(index),
        "value": _number(e.values[i, k]),
        "contribution": _number(e.total[i, k]),
        "constants": {name: _number(c[i, k]) for name, c in e.constants.items()},
        "aside": _number(e.aside[i, k]),
        "residual": _number(e.residual[i, k]),
        "complete": bool(e.complete[i, k]),
        "share": _number(e.share[i, k]),
    }
    if e.contrast is not None:
        other = int(e.contrast[i, k])
        record["contrast"] = {"index": other, "label": e.label(other)}
    return record


def _number(value: Tensor) -> float | None:
    """A Python float, or None for NaN and infinity."""
    x = float(value)
    return x if math.isfinite(x) else None
