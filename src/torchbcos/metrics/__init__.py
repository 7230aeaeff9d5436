"""Numbers from maps, masks, logits and targets: how good a classifier is, and how good an explanation of it."""

from __future__ import annotations

from torchbcos.metrics.about import Metric as Metric
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.complexity import entropy as entropy
from torchbcos.metrics.complexity import gini as gini
from torchbcos.metrics.table import METRICS as METRICS

__all__ = [
    "METRICS", "Metric",
    "accuracy", "score", "score_each",
    "entropy", "gini",
]  # fmt: skip
