"""How good a classifier is, and how good its maps are: numbers from logits, targets, maps and masks; one an image."""

from __future__ import annotations

from torchbcos.metrics.cells import idsds as idsds
from torchbcos.metrics.cells import single_deletion as single_deletion
from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
from torchbcos.metrics.grids import choose_grids as choose_grids
from torchbcos.metrics.grids import compose_grids as compose_grids
from torchbcos.metrics.grids import own_cells as own_cells
from torchbcos.metrics.grids import window_maps as window_maps
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

__all__ = [
    "accuracy", "score", "score_each",
    "choose_grids", "compose_grids", "own_cells", "window_maps",
    "grid_lift", "grid_lines", "grid_pointing",
    "area_lift", "by_size", "energy_pointing", "map_iou", "mask_fraction", "masks_of_boxes", "pointing_hit",
    "Curve", "area", "gap", "removal_curve", "removal_order",
    "idsds", "single_deletion",
    "kendall_tau_b", "spearman",
]  # fmt: skip
