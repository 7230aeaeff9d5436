"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each

__all__ = ["accuracy", "score", "score_each"]
