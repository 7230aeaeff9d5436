"""How good a classifier is, and how good its maps are: numbers from logits, targets, maps and masks; one an image."""

from __future__ import annotations

from torchbcos.metrics.about import Metric as Metric
from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.completeness import residual as residual
from torchbcos.metrics.complexity import entropy as entropy
from torchbcos.metrics.complexity import gini as gini
from torchbcos.metrics.grids import choose_grids as choose_grids
from torchbcos.metrics.grids import compose_grids as compose_grids
from torchbcos.metrics.grids import own_cells as own_cells
from torchbcos.metrics.grids import window_maps as window_maps
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
from torchbcos.metrics.pointing import grid_lift as grid_lift
from torchbcos.metrics.pointing import grid_lines as grid_lines
from torchbcos.metrics.pointing import grid_pointing as grid_pointing
from torchbcos.metrics.ranks import kendall_tau_b as kendall_tau_b
from torchbcos.metrics.ranks import spearman as spearman
from torchbcos.metrics.removal import Curve as Curve
from torchbcos.metrics.removal import area as area
from torchbcos.metrics.removal import gap as gap
from torchbcos.metrics.removal import removal_curve as removal_curve
from torchbcos.metrics.removal import removal_order as removal_order
from torchbcos.metrics.table import METRICS as METRICS

__all__ = [
    "Curve",
    "METRICS",
    "Metric",
    "accuracy",
    "agreement",
    "area",
    "area_lift",
    "by_size",
    "choose_grids",
    "compose_grids",
    "energy_pointing",
    "entropy",
    "gap",
    "gini",
    "grid_lift",
    "grid_lines",
    "grid_pointing",
    "idsds",
    "kendall_tau_b",
    "label_sensitivity",
    "map_iou",
    "mask_fraction",
    "masks_of_boxes",
    "own_cells",
    "pointing_hit",
    "removal_curve",
    "removal_order",
    "residual",
    "same_maps",
    "score",
    "score_each",
    "single_deletion",
    "spearman",
    "window_maps",
]
