"""The residual of one map, written a second time: float64, plain loops, from its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]


def residual(values: Numbers, constants: Numbers, logit: float, floor: float) -> float:
    """What the sum leaves of the logit, by the larger of its size and a floor."""
    return abs(math.fsum([*values, *constants]) - logit) / max(abs(logit), floor)
