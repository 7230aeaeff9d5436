"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.ranks import kendall_tau_b as kendall_tau_b
from torchbcos.metrics.ranks import spearman as spearman
from torchbcos.metrics.removal import Curve as Curve
from torchbcos.metrics.removal import area as area
from torchbcos.metrics.removal import gap as gap
from torchbcos.metrics.removal import removal_curve as removal_curve
from torchbcos.metrics.removal import removal_order as removal_order

__all__ = [
    "accuracy", "score", "score_each",
    "Curve", "area", "gap", "removal_curve", "removal_order",
    "idsds", "single_deletion",
    "kendall_tau_b", "spearman",
]  # fmt: skip
