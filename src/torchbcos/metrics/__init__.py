"""Numbers from maps, masks, logits and targets: how good a classifier is, and how good an explanation of it."""

from __future__ import annotations

from torchbcos.metrics.about import Metric as Metric
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.completeness import residual as residual
from torchbcos.metrics.complexity import entropy as entropy
from torchbcos.metrics.complexity import gini as gini
from torchbcos.metrics.likeness import agreement as agreement
from torchbcos.metrics.likeness import label_sensitivity as label_sensitivity
from torchbcos.metrics.likeness import same_maps as same_maps
from torchbcos.metrics.table import METRICS as METRICS

__all__ = [
    "METRICS", "Metric",
    "accuracy", "score", "score_each",
    "residual",
    "label_sensitivity",
    "entropy", "gini",
    "agreement", "same_maps",
]  # fmt: skip
