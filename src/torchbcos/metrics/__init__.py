"""How good a classifier is: numbers from logits and targets."""

from __future__ import annotations

from torchbcos.metrics.classification import accuracy as accuracy
from torchbcos.metrics.classification import score as score
from torchbcos.metrics.classification import score_each as score_each
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

__all__ = [
    "accuracy", "score", "score_each",
    "grid_lift", "grid_lines", "grid_pointing",
    "area_lift", "by_size", "energy_pointing", "map_iou", "mask_fraction", "masks_of_boxes", "pointing_hit",
]  # fmt: skip
