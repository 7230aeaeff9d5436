"""A scan: numbers of any number of space axes, and what its file says of them.

Shapes: C channels, *S space (L; H W; D H W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Scan"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """An input that was read from an array's or a scanner's file.

    Attributes:
        pixels: (C, *S) float32 in [0, 1].
        facts: what the file says of them, ready for JSON: "format", "window" (the stored numbers that became 0 and 1), "unit",
            "spacing" (millimetres an axis of space, in their order), "orientation", …

    >>> import torch
    >>> Scan(pixels=torch.rand(1, 4, 4), facts={"window": [-160.0, 240.0], "unit": "HU"}).facts["unit"]
    'HU'
    """

    pixels: Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Scan of {' x '.join(map(str, self.pixels.shape))}, {len(self.facts)} facts"
