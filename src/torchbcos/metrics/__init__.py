"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score

__all__ = ["accuracy", "score"]
