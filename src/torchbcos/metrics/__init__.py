"""How good a classifier is, by torchmetrics."""

from __future__ import annotations

from torchbcos.metrics.classification import score as score

__all__ = ["score"]
