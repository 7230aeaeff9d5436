"""How good a classifier is, and how good its maps are: numbers from logits, targets, maps and masks; one an image."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchbcos._core.optional import require
from torchbcos.metrics.about import Metric as Metric
from torchbcos.metrics.calibration import ReliabilityBin as ReliabilityBin
from torchbcos.metrics.calibration import fit_temperature as fit_temperature
from torchbcos.metrics.calibration import reliability as reliability
from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.completeness import residual as residual
from torchbcos.metrics.complexity import entropy as entropy
from torchbcos.metrics.complexity import gini as gini
from torchbcos.metrics.debiased import road as road
from torchbcos.metrics.debiased import road_curves as road_curves
from torchbcos.metrics.deleting import deletion as deletion
from torchbcos.metrics.deleting import insertion as insertion
from torchbcos.metrics.deleting import pixel_steps as pixel_steps
from torchbcos.metrics.deleting import rise_blur as rise_blur
from torchbcos.metrics.faithfulness import infidelity as infidelity
from torchbcos.metrics.faithfulness import sensitivity_n as sensitivity_n
from torchbcos.metrics.funnybirds import background_independence as background_independence
from torchbcos.metrics.funnybirds import choose_threshold as choose_threshold
from torchbcos.metrics.funnybirds import combined_scores as combined_scores
from torchbcos.metrics.funnybirds import controlled_data_check as controlled_data_check
from torchbcos.metrics.funnybirds import deletion_check as deletion_check
from torchbcos.metrics.funnybirds import distractibility as distractibility
from torchbcos.metrics.funnybirds import part_correlation as part_correlation
from torchbcos.metrics.funnybirds import preservation_check as preservation_check
from torchbcos.metrics.funnybirds import target_sensitivity as target_sensitivity
from torchbcos.metrics.grids import choose_grids as choose_grids
from torchbcos.metrics.grids import compose_grids as compose_grids
from torchbcos.metrics.grids import own_cells as own_cells
from torchbcos.metrics.grids import window_maps as window_maps
from torchbcos.metrics.imputing import impute_linear as impute_linear
from torchbcos.metrics.likeness import agreement as agreement
from torchbcos.metrics.likeness import label_sensitivity as label_sensitivity
from torchbcos.metrics.likeness import same_maps as same_maps
from torchbcos.metrics.objects import area_lift as area_lift
from torchbcos.metrics.objects import by_size as by_size
from torchbcos.metrics.objects import energy_pointing as energy_pointing
from torchbcos.metrics.objects import map_iou as map_iou
from torchbcos.metrics.objects import mask_fraction as mask_fraction
from torchbcos.metrics.objects import masks_of_boxes as masks_of_boxes
from torchbcos.metrics.objects import pointing_hit as pointing_hit
from torchbcos.metrics.parts import BIRD_THRESHOLDS as BIRD_THRESHOLDS
from torchbcos.metrics.parts import contrasting_classes as contrasting_classes
from torchbcos.metrics.parts import important_parts as important_parts
from torchbcos.metrics.parts import minimal_part_sets as minimal_part_sets
from torchbcos.metrics.parts import part_importance as part_importance
from torchbcos.metrics.pointing import grid_lift as grid_lift
from torchbcos.metrics.pointing import grid_lines as grid_lines
from torchbcos.metrics.pointing import grid_pointing as grid_pointing
from torchbcos.metrics.protocols import PROTOCOLS as PROTOCOLS
from torchbcos.metrics.protocols import Protocol as Protocol
from torchbcos.metrics.protocols import protocol as protocol
from torchbcos.metrics.rankings import RankAgreement as RankAgreement
from torchbcos.metrics.rankings import rank_agreement as rank_agreement
from torchbcos.metrics.ranks import kendall_tau_b as kendall_tau_b
from torchbcos.metrics.ranks import spearman as spearman
from torchbcos.metrics.removal import Curve as Curve
from torchbcos.metrics.removal import area as area
from torchbcos.metrics.removal import gap as gap
from torchbcos.metrics.removal import removal_curve as removal_curve
from torchbcos.metrics.removal import removal_order as removal_order
from torchbcos.metrics.sanity import LayerSimilarity as LayerSimilarity
from torchbcos.metrics.sanity import entropy_rise as entropy_rise
from torchbcos.metrics.sanity import histogram_entropy as histogram_entropy
from torchbcos.metrics.sanity import mean_of_noisy as mean_of_noisy
from torchbcos.metrics.sanity import randomisation as randomisation
from torchbcos.metrics.sanity import unit_moment as unit_moment
from torchbcos.metrics.stability import max_sensitivity as max_sensitivity
from torchbcos.metrics.summing import summary as summary
from torchbcos.metrics.table import METRICS as METRICS

__all__ = [
    "BIRD_THRESHOLDS",
    "Curve",
    "LayerSimilarity",
    "METRICS",
    "Metric",
    "PROTOCOLS",
    "Protocol",
    "RankAgreement",
    "ReliabilityBin",
    "accuracy",
    "agreement",
    "area",
    "area_lift",
    "background_independence",
    "by_size",
    "choose_grids",
    "choose_threshold",
    "combined_scores",
    "compose_grids",
    "contrasting_classes",
    "controlled_data_check",
    "deletion",
    "deletion_check",
    "distractibility",
    "energy_pointing",
    "entropy",
    "entropy_rise",
    "fit_temperature",
    "gap",
    "gini",
    "grid_lift",
    "grid_lines",
    "grid_pointing",
    "histogram_entropy",
    "idsds",
    "important_parts",
    "impute_linear",
    "infidelity",
    "insertion",
    "kendall_tau_b",
    "label_sensitivity",
    "map_iou",
    "mask_fraction",
    "masks_of_boxes",
    "max_sensitivity",
    "mean_of_noisy",
    "minimal_part_sets",
    "own_cells",
    "part_correlation",
    "part_importance",
    "pixel_steps",
    "pointing_hit",
    "preservation_check",
    "protocol",
    "randomisation",
    "rank_agreement",
    "reliability",
    "removal_curve",
    "removal_order",
    "residual",
    "rise_blur",
    "road",
    "road_curves",
    "same_maps",
    "score",
    "score_each",
    "sensitivity_n",
    "single_deletion",
    "spearman",
    "summary",
    "target_sensitivity",
    "unit_moment",
    "window_maps",
]

# metrics with a state, of `torchbcos.metrics.running`: loaded when one is first used, for they need torchmetrics
_RUNNING = (
    "Agreement", "Deletion", "EnergyPointing", "Entropy", "Gini", "GridPointing", "Idsds", "Infidelity", "Insertion",
    "LabelSensitivity", "MapIoU", "MaxSensitivity", "PointingHit", "Randomisation", "Residual", "Road", "Running", "SensitivityN",
    "SingleDeletion",
)  # fmt: skip

if not TYPE_CHECKING:  # else every wrong name would be of type Any

    def __getattr__(name: str) -> Any:
        if name not in _RUNNING:
            raise AttributeError(f"module 'torchbcos.metrics' has no attribute {name!r}")
        require("torchmetrics", extra="evaluate", why=f"The metric with a state {name}")
        return getattr(importlib.import_module("torchbcos.metrics.running"), name)


def __dir__() -> list[str]:
    return [*__all__, *_RUNNING]
