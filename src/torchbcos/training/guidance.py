"""Training on explanations: guidance by boxes or masks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos.explanation.layer import contribution_maps
from torchbcos.training.distillation import TINY, Teacher
from torchbcos.training.machine import processes
from torchbcos.training.objective import classification_loss
from torchbcos.training.recipe import Recipe


def energy_inside(maps: Tensor, masks: Tensor, *, size_corrected: bool = False) -> Tensor:
    """The share of the positive contributions that lies inside the mask (energy pointing game, arXiv 1910.01279).

    Args:
        maps: (N, H, W) contributions.
        masks: (N, H, W) of zeros and ones.
        size_corrected: compare densities instead of sums, so that a large mask is no advantage.

    Returns:
        (N,) in [0, 1].

    >>> float(energy_inside(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])))
    0.75
    """
    positive = maps.clamp_min(0).flatten(1)
    inside = masks.flatten(1).to(positive.dtype)
    within, outside = (positive * inside).sum(1), (positive * (1 - inside)).sum(1)
    if size_corrected:
        within, outside = within / inside.sum(1).clamp_min(1), outside / (1 - inside).sum(1).clamp_min(1)
    return within / (within + outside).clamp_min(TINY)


def energy_loss(maps: Tensor, masks: Tensor, *, per_box: bool = False, size_corrected: bool = False) -> Tensor:
    """One minus the energy inside, of every image (Rao et al. 2023, arXiv 2303.11932, section 3).

    Args:
        maps: (N, H, W).
        masks: (N, B, H, W): one mask a box; empty ones do not count.
        per_box: the mean over boxes, each against what lies in none of them, so that small objects count as much as large
            ones; otherwise the union of all boxes.
        size_corrected: as in `energy_inside`.

    Returns:
        (N,).
    """
    union = masks.amax(1)
    if not per_box:
        return 1 - energy_inside(maps, union, size_corrected=size_corrected)
    seen = [maps * ((box > 0) | (union == 0)) for box in masks.unbind(1)]
    boxes = zip(seen, masks.unbind(1), strict=True)
    return mean_over_boxes([1 - energy_inside(only, box, size_corrected=size_corrected) for only, box in boxes], masks)


def mean_over_boxes(losses: list[Tensor], masks: Tensor) -> Tensor:
    """The mean (N,) of the losses (N,) of every box; empty boxes (N, B, H, W) do not count."""
    weight = (masks > 0).flatten(2).any(2).to(losses[0].dtype)
    return (torch.stack(losses, 1) * weight).sum(1) / weight.sum(1).clamp_min(1)


def l1_loss(maps: Tensor, masks: Tensor, *, per_box: bool = False, size_corrected: bool = False) -> Tensor:
    """Mean distance between the mask and the positive contributions, scaled to a largest value of one (arXiv 2303.11932).

    Args:
        maps: (N, H, W).
        masks: (N, B, H, W).
        per_box: as in `energy_loss`.
        size_corrected: inside and outside count the same, whatever their areas.

    Returns:
        (N,).
    """
    union = masks.amax(1)
    positive = maps.clamp_min(0)
    scaled = positive / positive.flatten(1).amax(1).clamp_min(TINY)[:, None, None]
    if per_box:
        return mean_over_boxes([l1_part(scaled, box, union, size_corrected) for box in masks.unbind(1)], masks)
    return l1_part(scaled, union, union, size_corrected)


def l1_part(scaled: Tensor, box: Tensor, union: Tensor, size_corrected: bool) -> Tensor:
    """The distance inside one box and outside of all."""
    inside = box.flatten(1).to(scaled.dtype)
    outside = (union == 0).flatten(1).to(scaled.dtype)
    flat = scaled.flatten(1)
    within, around = ((1 - flat) * inside).sum(1), (flat * outside).sum(1)
    if size_corrected:
        return 0.5 * (within / inside.sum(1).clamp_min(1) + around / outside.sum(1).clamp_min(1))
    return (within + around) / (inside + outside).sum(1).clamp_min(1)


def counted(annotated: Tensor) -> tuple[int, int, int]:
    """How many pictures are annotated here, on all processes, and how many processes there are."""
    count, world = int(annotated.sum()), processes()[1]
    total = torch.tensor(count, device=annotated.device)
    if world > 1:
        torch.distributed.all_reduce(total)
    return count, int(total), world


class Guide:
    """The loss of a recipe that trains on explanations."""

    def __init__(self, recipe: Recipe, multi_label: bool = False) -> None:
        self.recipe = recipe
        self.teacher = Teacher(recipe, multi_label) if recipe.teacher else None
        self.order: Any = True if recipe.guide_order == "full" else "truncated"

    def loss(self, training: Any, x: Tensor, targets: Tensor, batch: dict[str, Any]) -> Tensor:
        """Classification, guidance and distillation, each by its weight; the teacher sees the very same, mixed pictures."""
        recipe = self.recipe
        x, targets = training.mixer(x, targets)  # guidance refuses recipes that mix
        logits = training.run(x)
        total = classification_loss(logits, targets, recipe, multi_label=training.multi_label)
        if recipe.guide and "mask" in batch:
            total = total + recipe.guide_weight * self.guidance(training.network, x, batch["y"], batch["mask"])
        if self.teacher is not None:
            total = total + self.teacher.loss(training.network, x, logits, self.order)
        return total

    def guidance(self, network: nn.Module, x: Tensor, y: Tensor, masks: Tensor) -> Tensor:
        """The mean guidance loss of the annotated pictures, for the class of each (one that holds, of several)."""
        annotated = (masks > 0).flatten(1).any(1)
        if y.dim() == 2:
            annotated &= y.any(1)  # a picture of nothing has no class to explain
        count, everywhere, world = counted(annotated)
        if not everywhere:
            return x.new_zeros(())
        if not count:  # other processes explain: synchronised norms wait for this one too
            annotated = torch.arange(len(x), device=x.device) == 0
        classes = y if y.dim() == 1 else (y * (1 + torch.rand_like(y))).argmax(1)
        maps = contribution_maps(
            network, x[annotated], classes[annotated], at=self.recipe.guide_at or None, create_graph=self.order
        )
        inside = masks[annotated].float()
        if inside.shape[2:] != maps.shape[1:]:
            inside = F.adaptive_max_pool2d(inside, maps.shape[1:])
        options = {"per_box": self.recipe.guide_per_box, "size_corrected": self.recipe.guide_size_corrected}
        losses = (energy_loss if self.recipe.guide == "energy" else l1_loss)(maps, inside, **options)
        # gradients are averaged over processes: this becomes the mean over the annotated pictures of all of them
        return losses.mean() * (count * world / everywhere)
