"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.ranks import kendall_tau_b as kendall_tau_b
from torchbcos.metrics.ranks import spearman as spearman

__all__ = [
    "accuracy", "score", "score_each",
    "kendall_tau_b", "spearman",
]  # fmt: skip
