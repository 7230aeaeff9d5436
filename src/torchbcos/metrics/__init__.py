"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.funnybirds import background_independence as background_independence
from torchbcos.metrics.funnybirds import choose_threshold as choose_threshold
from torchbcos.metrics.funnybirds import combined_scores as combined_scores
from torchbcos.metrics.funnybirds import controlled_data_check as controlled_data_check
from torchbcos.metrics.funnybirds import deletion_check as deletion_check
from torchbcos.metrics.funnybirds import distractibility as distractibility
from torchbcos.metrics.funnybirds import part_correlation as part_correlation
from torchbcos.metrics.funnybirds import preservation_check as preservation_check
from torchbcos.metrics.funnybirds import target_sensitivity as target_sensitivity
from torchbcos.metrics.parts import BIRD_THRESHOLDS as BIRD_THRESHOLDS
from torchbcos.metrics.parts import contrasting_classes as contrasting_classes
from torchbcos.metrics.parts import important_parts as important_parts
from torchbcos.metrics.parts import minimal_part_sets as minimal_part_sets
from torchbcos.metrics.parts import part_importance as part_importance
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
    "BIRD_THRESHOLDS", "background_independence", "choose_threshold", "combined_scores", "contrasting_classes",
    "controlled_data_check", "deletion_check", "distractibility", "important_parts", "minimal_part_sets", "part_correlation",
    "part_importance", "preservation_check", "target_sensitivity",
]  # fmt: skip
