"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.deletion import deletion as deletion
from torchbcos.metrics.deletion import insertion as insertion
from torchbcos.metrics.deletion import pixel_steps as pixel_steps
from torchbcos.metrics.deletion import rise_blur as rise_blur
from torchbcos.metrics.imputing import impute_linear as impute_linear
from torchbcos.metrics.ranks import kendall_tau_b as kendall_tau_b
from torchbcos.metrics.ranks import spearman as spearman
from torchbcos.metrics.removal import Curve as Curve
from torchbcos.metrics.removal import area as area
from torchbcos.metrics.removal import gap as gap
from torchbcos.metrics.removal import removal_curve as removal_curve
from torchbcos.metrics.removal import removal_order as removal_order
from torchbcos.metrics.road import road as road
from torchbcos.metrics.road import road_curves as road_curves

__all__ = [
    "accuracy", "score", "score_each",
    "Curve", "area", "gap", "removal_curve", "removal_order",
    "deletion", "insertion", "pixel_steps", "rise_blur",
    "impute_linear", "road", "road_curves",
    "idsds", "single_deletion",
    "kendall_tau_b", "spearman",
]  # fmt: skip
