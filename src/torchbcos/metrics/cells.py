"""Single deletion: does what a map says of a cell fit what the cell's removal does?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.about import Metric
from torchbcos.metrics.imputing import remover
from torchbcos.metrics.passes import Predict, Replace, check_count, check_pictures, fitted_maps, outcomes
from torchbcos.metrics.ranks import levelled, spearman
from torchbcos.metrics.wide import scaled

__all__ = ["METRICS", "cell_numbers", "idsds", "single_deletion"]


def cell_numbers(size: Sequence[int], cells: int | Sequence[int]) -> Tensor:
    """To which cell of a grid each pixel belongs, row by row; where the sides do not divide, edges are rounded.

    Args:
        size: (H, W), or any number of axes.
        cells: along every axis, or one number an axis.

    Returns:
        (H, W) int64.

    Raises:
        InputError: an axis has fewer pixels than cells, or `cells` does not fit the axes.

    >>> cell_numbers((2, 5), (1, 2))
    tensor([[0, 0, 0, 1, 1],
            [0, 0, 0, 1, 1]])
    """
    counts = [cells] * len(size) if isinstance(cells, Integral) else list(cells) if isinstance(cells, Sequence) else None
    if counts is None or isinstance(cells, str):
        raise ArgumentTypeError(f"cells must be a whole number, or one an axis, not {type(cells).__name__}.")
    if len(counts) != len(size):
        raise InputError(f"cells must be a whole number, or {len(size)} of them, one an axis, not {tuple(counts)}.")
    found = torch.zeros(1, dtype=torch.int64)
    for side, count in zip(size, counts, strict=True):
        count = check_count(count, "cells")
        if count > side:
            raise InputError(f"{count} cells do not fit along {side} pixels: choose fewer.")
        edges = torch.tensor([(2 * i * side + count) // (2 * count) for i in range(1, count)], dtype=torch.int64)
        along = torch.bucketize(torch.arange(side), edges, right=True)
        found = found.unsqueeze(-1) * count + along
    return found.squeeze(0)


def single_deletion(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    cells: int | Sequence[int] = 4,
    replace: Replace = "grey",
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """Spearman's correlation, over the cells of a grid, of the map's sum in a cell and of the score's drop without the cell.

    No order and no ties between pixels, and one pass a cell (arXiv 2407.11910, of which `idsds` has the rest). Occlusion with
    the same grid and the same replacement has 1 by construction: it defines this metric.

    Args:
        predict: (b, C, H, W) -> (b,): the score, a logit rather than a probability.
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        maps: (N, H, W), signed.
        cells: of the grid along each axis; edges are rounded where they do not divide the side.
        replace: as in `removal_curve`.
        batch_size: pictures of one pass, at most.
        targets: as in `removal_curve`.

    Returns:
        (N,) in [-1, 1]; NaN where the map is constant, or no cell changes the score.

    Raises:
        InputError: shapes do not fit, or there are more cells than pixels.

    >>> x = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
    >>> single_deletion(lambda x: x.sum((1, 2, 3)), x, x[:, 0], cells=2, replace=0.0)
    tensor([1.])
    """
    x = check_pictures(x)
    maps = fitted_maps(maps, x)
    number = cell_numbers(x.shape[2:], cells).to(x.device)
    count = int(number.max()) + 1
    removed = remover(x, replace)

    def build(images: Tensor, steps: Tensor) -> Tensor:
        # step 0 removes nothing: cells are counted from 0, and step - 1 is none of them
        return removed(images, number == (steps - 1).view(-1, *(1,) * number.dim()))

    found = outcomes(predict, build, len(x), count + 1, batch_size=batch_size, targets=targets, device=x.device)
    drops = found[:, :1].double() - found[:, 1:].double()
    # a score that the network rounds differently in another batch has not changed
    noise = 8 * torch.finfo(found.dtype).eps * found.double().abs().amax(1, keepdim=True)
    still = drops.abs().amax(1) <= noise.squeeze(1)
    even = (maps == maps.flatten(1)[:, :1].view(-1, *(1,) * number.dim())).flatten(1).all(1).to(found.device)
    rho = spearman(_sums(maps, number, count).to(found.device), levelled(drops, noise))
    return torch.where(still | even, math.nan, rho).to(torch.promote_types(found.dtype, maps.dtype))


def idsds(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    cells: int | Sequence[int] = 4,
    replace: Replace = "grey",
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """Single deletion of a network that was fine-tuned to pictures with a deleted cell (in-domain single deletion score).

    The number is `single_deletion`; the name is right only where the network has seen such pictures in training (arXiv
    2407.11910: 30 epochs, every second image with one random cell of 4 × 4 deleted), with the same `cells` and `replace`.
    Of any other network say "single deletion". Published numbers are of the label's logit, `replace="black"` for B-cos.

    Args:
        predict: of the fine-tuned network.
        x: as in `single_deletion`, and so are the others.
        maps: (N, H, W), signed.
        cells: as in the fine-tuning.
        replace: as in the fine-tuning.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.

    Returns:
        (N,) in [-1, 1]; NaN where it is undefined: count these images, and take 0 for them in a mean.

    >>> x = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
    >>> idsds(lambda x: x.sum((1, 2, 3)), x, -x[:, 0], cells=2, replace=0.0)
    tensor([-1.])
    """
    return single_deletion(predict, x, maps, cells=cells, replace=replace, batch_size=batch_size, targets=targets)


def _sums(maps: Tensor, number: Tensor, count: int) -> Tensor:
    """(N, cells) float64, of maps on one scale; sums that rounding alone tells apart are one."""
    flat = scaled(maps).flatten(1).double()
    sums = torch.zeros(len(maps), count, dtype=torch.float64, device=maps.device).index_add_(1, number.flatten(), flat)
    return levelled(sums, 1e-12 * flat.abs().sum(1, keepdim=True))


METRICS = (
    Metric(
        name="single-deletion",
        function=single_deletion,
        summary="Spearman's correlation, over 4 x 4 cells, of the map's sum and of the score's drop without the cell.",
        best="high",
        range="[-1, 1]; constant map undefined, random map 0",
        needs="predict",
        cost="cells² + 1",
        source="Hesse et al. 2024, arXiv 2407.11910",
        verified="twin, closed form",
        blind="Order alone counts, within a coarse grid; pictures with a grey cell are new to the network.",
    ),
    Metric(
        name="idsds",
        function=idsds,
        summary="Single deletion of a network that was fine-tuned to pictures with a deleted cell.",
        best="high",
        range="[-1, 1]; constant map undefined, random map 0",
        needs="predict",
        cost="cells² + 1",
        source="Hesse et al. 2024, arXiv 2407.11910",
        verified="twin, closed form",
        blind="It is of the fine-tuned network, not of the one in use; occlusion with the same cells has 1 by construction.",
    ),
)
