"""Guidance by boxes or masks: how far the evidence lies from where the object is."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TINY", "energy_inside", "energy_loss", "l1_loss", "one_class"]

TINY = 1e-12


def one_class(classes: Tensor) -> Tensor:
    """A class that holds, (N,), of (N,) classes or of (N, C) labels, where NaN is not known.

    >>> one_class(torch.tensor([[0.0, float("nan"), 1.0]])).tolist(), one_class(torch.tensor([4])).tolist()
    ([2], [4])
    """
    return classes if classes.dim() == 1 else classes.nan_to_num(0.0).argmax(1)


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
    return _mean_over_boxes([1 - energy_inside(only, box, size_corrected=size_corrected) for only, box in boxes], masks)


def _mean_over_boxes(losses: list[Tensor], masks: Tensor) -> Tensor:
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
        return _mean_over_boxes([_l1_part(scaled, box, union, size_corrected) for box in masks.unbind(1)], masks)
    return _l1_part(scaled, union, union, size_corrected)


def _l1_part(scaled: Tensor, box: Tensor, union: Tensor, size_corrected: bool) -> Tensor:
    """The distance inside one box and outside of all."""
    inside = box.flatten(1).to(scaled.dtype)
    outside = (union == 0).flatten(1).to(scaled.dtype)
    flat = scaled.flatten(1)
    within, around = ((1 - flat) * inside).sum(1), (flat * outside).sum(1)
    if size_corrected:
        return 0.5 * (within / inside.sum(1).clamp_min(1) + around / outside.sum(1).clamp_min(1))
    return (within + around) / (inside + outside).sum(1).clamp_min(1)
