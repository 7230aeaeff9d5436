"""Maps against objects: energy pointing, intersection over union, pointing hits; masks of boxes, and bins of size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.numbers import positive_integer, real
from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps, check_masks
from torchbcos.metrics.pointing import positive
from torchbcos.metrics.wide import wide

__all__ = [
    "METRICS", "SizeBin",
    "area_lift", "by_size", "energy_pointing", "map_iou", "mask_fraction", "masks_of_boxes", "pointing_hit",
]  # fmt: skip

_LARGEST = 2**31  # pixels of one mask
_SETS = 20  # steps of the quantile grid: 5 % to 95 % of the pixels


def energy_pointing(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive evidence that lies on the object: `Σ_{p in mask} A⁺(p) / Σ_p A⁺(p)`.

    The energy-based pointing game (Score-CAM, arXiv 1910.01279). An even map scores the area of the mask: see `area_lift`.

    Args:
        maps: (N, *S), signed.
        masks: (N, *S) bool: all pixels of all objects of the class.

    Returns:
        (N,) in [0, 1], of the dtype of the maps; NaN where a map has no positive evidence, or the mask is empty.

    Raises:
        ArgumentTypeError: maps or masks are no tensor.
        InputError: a map is not finite, or masks have another shape.

    >>> energy_pointing(torch.tensor([[3.0, 1.0, -5.0]]), torch.tensor([[True, False, True]]))
    tensor([0.7500])
    """
    maps = check_maps(maps)
    inside = check_masks(masks, maps).flatten(1)
    evidence = positive(maps).flatten(1)
    total = evidence.sum(1)
    share = (evidence * inside).sum(1) / total
    return torch.where((total > 0) & inside.any(1), share, math.nan).to(maps.dtype)


def mask_fraction(masks: Tensor) -> Tensor:
    """Share of the picture that the mask covers: what an even map scores in `energy_pointing`. (N,) in [0, 1].

    >>> mask_fraction(torch.tensor([[True, False, False, False]]))
    tensor([0.2500])
    """
    inside = _flat(masks)
    return inside.sum(1) / inside.shape[1]


def _flat(masks: object) -> Tensor:
    """Masks (N, *S) as (N, P) bool."""
    if not isinstance(masks, Tensor):
        raise ArgumentTypeError(f"masks must be a tensor (N, H, W) of bool, not {type(masks).__name__}.")
    if masks.dim() < 2 or masks.numel() == 0:
        raise InputError(f"masks must be (N, H, W), one mask an image, not {tuple(masks.shape)}.")
    return check_masks(masks, masks).flatten(1)


def area_lift(values: Tensor, masks: Tensor) -> Tensor:
    """How many times more evidence lies on the object than an even map has there: `EPG / area`. 1 says nothing was found.

    Args:
        values: (N,) of `energy_pointing`.
        masks: (N, *S) bool, the same.

    Returns:
        (N,), at most 1 / area; NaN where a value is NaN.

    >>> area_lift(torch.tensor([0.75]), torch.tensor([[True, False, False, False]]))
    tensor([3.])
    """
    fraction = mask_fraction(masks)
    values = _check_values(values)
    if values.shape != fraction.shape:
        raise InputError(f"There are {tuple(values.shape)} values for {len(fraction)} masks.")
    return torch.where(fraction > 0, values / fraction.to(values), math.nan)


@dataclass(frozen=True)
class SizeBin:
    """The images whose object has a size in [low, high).

    Attributes:
        low, high: pixels.
        images: (M,) which images they are, in order.
        values: (M,) what was measured of them; NaN where it is undefined.
    """

    low: float
    high: float
    images: Tensor
    values: Tensor

    @property
    def undefined(self) -> int:
        """How many values are NaN."""
        return int(self.values.isnan().sum())

    @property
    def mean(self) -> float:
        """Mean of the values that are defined; NaN if there are none."""
        return float(self.values.nanmean())


def by_size(values: Tensor, masks: Tensor, edges: Sequence[float]) -> tuple[SizeBin, ...]:
    """Sort values of images into bins of the size of their object.

    Args:
        values: (N,) one number an image.
        masks: (N, *S) bool, or (N,) sizes in pixels (of the picture before it was resized, say).
        edges: increasing, in pixels: (0, 32**2, 96**2, inf) are the bins small, medium and large of COCO.

    Returns:
        A bin for each pair of neighbours in `edges`: `low <= size < high`. An empty mask is in no bin.

    >>> [b.mean for b in by_size(torch.tensor([0.5, 1.0]), torch.tensor([10, 2000]), (0, 1024, 9216))]
    [0.5, 1.0]
    """
    sizes, values = _sizes(masks), _check_values(values)
    if values.shape != sizes.shape:
        raise InputError(f"Expected one value an image, ({len(sizes)},), got {tuple(values.shape)}.")
    given = [real(edge) for edge in edges] if isinstance(edges, (Sequence, Tensor)) else []
    limits = [edge for edge in given if edge is not None]
    if len(limits) < max(2, len(given)) or not all(a < b for a, b in pairwise(limits)):
        raise InputError(f"edges are at least two increasing sizes in pixels, such as (0, 1024, 9216, inf), not {edges!r}.")
    bins = []
    for low, high in pairwise(limits):
        images = ((sizes > 0) & (sizes >= low) & (sizes < high)).nonzero().squeeze(1)
        bins.append(SizeBin(low, high, images, values[images.to(values.device)]))
    return tuple(bins)


def _sizes(masks: Tensor) -> Tensor:
    if not isinstance(masks, Tensor) or masks.dim() != 1 or masks.dtype == torch.bool:
        return _flat(masks).sum(1)
    if bool(masks.isnan().any()):
        raise InputError("A size is NaN: sizes are pixels of objects, 0 where there is none.")
    return masks


def _check_values(values: object) -> Tensor:
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"values are a tensor (N,), one number an image, not {type(values).__name__}.")
    return values


def map_iou(maps: Tensor, masks: Tensor, *, threshold: float | None = 0.5) -> Tensor:
    """Intersection over union of the object and the pixels where a map is high.

    Args:
        maps: (N, *S), signed; their positive part is stretched to [0, 1], map by map. A constant positive map is high everywhere.
        masks: (N, *S) bool.
        threshold: pixels above it are high (Model Guidance, arXiv 2303.11932: 0.5). None: the mean over nineteen sets of pixels:
            the highest 5 %, 10 %, … 95 % (those with the same value together, and positive ones only).

    Returns:
        (N,) in [0, 1], of the dtype of the maps; NaN where a map has no positive evidence, or the mask is empty.

    Raises:
        ArgumentTypeError: maps or masks are no tensor.
        InputError: a map is not finite, masks have another shape, or the threshold is not in [0, 1).

    >>> map_iou(torch.tensor([[4.0, 3.0, 1.0, -1.0]]), torch.tensor([[True, False, False, False]]))
    tensor([0.5000])
    """
    maps = check_maps(maps)
    inside = check_masks(masks, maps).flatten(1)
    evidence = positive(maps).flatten(1)
    if threshold is None:
        found = _iou_of_ranks(evidence, inside)
    else:
        level = real(threshold)
        if level is None or not 0 <= level < 1:
            raise InputError(f"threshold is a number in [0, 1), or None for all thresholds, not {threshold!r}.")
        found = _iou(_stretched(evidence) > level, inside)
    return torch.where((evidence > 0).any(1) & inside.any(1), found, math.nan).to(maps.dtype)


def _stretched(evidence: Tensor) -> Tensor:
    low, high = evidence.amin(1, keepdim=True), evidence.amax(1, keepdim=True)
    return torch.where(high > low, (evidence - low) / (high - low), 1.0)


def _iou(high: Tensor, inside: Tensor) -> Tensor:
    return wide((high & inside).sum(1)) / (high | inside).sum(1)


def _iou_of_ranks(evidence: Tensor, inside: Tensor) -> Tensor:
    """Mean over sets of the highest pixels; ties come in together, so that no order of equal pixels decides."""
    pixels = evidence.shape[1]
    ordered, places = evidence.sort(1, descending=True)
    levels = ordered[:, [-(-j * pixels // _SETS) - 1 for j in range(1, _SETS)]]
    ranks = torch.searchsorted(-ordered, -levels, right=True)  # how many pixels are as high as a level
    ranks = torch.minimum(ranks, (evidence > 0).sum(1, keepdim=True))
    hits = inside.gather(1, places).cumsum(1).gather(1, (ranks - 1).clamp_min(0))
    either = ranks + inside.sum(1, keepdim=True) - hits
    return (hits.to(evidence.dtype) / either).mean(1)


def pointing_hit(maps: Tensor, masks: Tensor, *, tolerance: float = 0) -> Tensor:
    """Whether the highest pixel of a map lies on the object (Zhang et al. 2016, arXiv 1608.00507).

    Args:
        maps: (N, *S) for tolerance 0, else (N, H, W); signed.
        masks: the same shape, bool.
        tolerance: in pixels: the object counts as hit, too, if it is nearer than this to the highest pixel. The published game
            has 15 at 224 pixels.

    Returns:
        (N,): 1 for a hit, 0 for a miss; pixels that are equally high share it: the fraction of them that hit, so that a
        constant map scores the area of the object. NaN where the mask is empty.

    Raises:
        ArgumentTypeError: maps or masks are no tensor.
        InputError: a map is not finite, masks have another shape, or the tolerance is negative.

    >>> pointing_hit(torch.tensor([[2.0, 1.0], [2.0, 2.0]]), torch.tensor([[True, False], [True, False]]))
    tensor([1.0000, 0.5000])
    """
    maps = check_maps(maps)
    inside = check_masks(masks, maps)
    reach = real(tolerance)
    if reach is None or not 0 <= reach < math.inf:
        raise InputError(f"tolerance is a distance in pixels, 0 or more, not {tolerance!r}.")
    if reach and maps.dim() != 3:
        raise InputError(f"A tolerance needs maps (N, H, W), not {tuple(maps.shape)}.")
    points = _highest(maps).nonzero()
    hits = _hits(points, inside, reach) if reach else inside[tuple(points.T)]
    tied, hit = (
        torch.zeros(len(maps), device=maps.device).index_add_(0, points[:, 0], one.float()) for one in (hits | True, hits)
    )
    return torch.where(inside.flatten(1).any(1), hit.to(maps.dtype) / tied, math.nan).to(maps.dtype)


def _highest(maps: Tensor) -> Tensor:
    return maps == maps.amax(tuple(range(1, maps.dim())), keepdim=True)


def _hits(points: Tensor, inside: Tensor, tolerance: float) -> Tensor:
    """(M,): which of the points (M, 3) lie on a mask, or nearer to it than `tolerance`; row by row of the disc."""
    height, width = inside.shape[1:]
    counts = torch.nn.functional.pad(inside.cumsum(2, dtype=torch.int32), (1, 0))
    image, y, x = points.T
    hits = torch.zeros_like(image, dtype=torch.bool)
    tolerance = min(tolerance, math.hypot(height, width) + 1)
    reach = min(math.ceil(tolerance) - 1, height - 1)
    for dy in range(-reach, reach + 1):
        half = math.isqrt(math.ceil(tolerance**2 - dy**2) - 1)  # the largest dx with dx² + dy² < tolerance²
        row = (y + dy).clamp(0, height - 1)
        found = counts[image, row, (x + half + 1).clamp_max(width)] > counts[image, row, (x - half).clamp_min(0)]
        hits |= found & (row == y + dy)
    return hits


def masks_of_boxes(boxes: Sequence[Any] | Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of the boxes of every image: `mask[ymin:ymax, xmin:xmax]`, so the far edge is outside; overlaps count once.

    Args:
        boxes: for each image a list of boxes (xmin, ymin, xmax, ymax) in pixels, which may be empty; or (N, B, 4), or (N, 4) for
            one box an image. What lies outside the picture is cut; of fractions, pixels whose middle is in the box count.
        size: (H, W).

    Returns:
        (N, H, W) bool.

    Raises:
        InputError: a box is no four numbers, is not finite, or ends before it begins.

    >>> masks_of_boxes([[(1, 0, 3, 1)], []], (2, 4)).int()
    tensor([[[0, 1, 1, 0],
             [0, 0, 0, 0]],
    <BLANKLINE>
            [[0, 0, 0, 0],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    sides = [positive_integer(side) for side in size] if isinstance(size, Sequence) and len(size) == 2 else []
    height, width = (side or 0 for side in (sides or (0, 0)))
    if not 0 < height * width <= _LARGEST:
        raise InputError(f"size is (H, W), the pixels of a picture, not {size!r}.")
    if not isinstance(boxes, (Sequence, Tensor, np.ndarray)):
        raise ArgumentTypeError(f"boxes are a list of boxes for each image, or (N, B, 4), not {type(boxes).__name__}.")
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    for i, given in enumerate(boxes):
        for xmin, ymin, xmax, ymax in _boxes_of(given, i):
            masks[i] |= ((y >= ymin) & (y < ymax))[:, None] & ((x >= xmin) & (x < xmax))
    return masks


def _boxes_of(given: Any, image: int) -> list[list[float]]:
    try:
        found = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"The boxes of image {image} are no lists of four numbers (xmin, ymin, xmax, ymax).") from error
    if found.numel() == 0:
        return []
    if found.dim() not in (1, 2) or found.shape[-1] != 4:
        raise InputError(f"Boxes are (xmin, ymin, xmax, ymax): four numbers each, and image {image} has {tuple(found.shape)}.")
    found = found.view(-1, 4).cpu()
    if not bool(found.isfinite().all()) or bool((found[:, 2:] < found[:, :2]).any()):
        raise InputError(
            f"A box of image {image} is not finite or ends before it begins: expected xmin <= xmax and ymin <= ymax."
        )
    rows: list[list[float]] = found.tolist()
    return rows


METRICS = (
    Metric(
        "energy-pointing", energy_pointing, "Share of the positive evidence that lies on the object.",
        best="high", range="[0, 1]; even map the area of the object", needs="masks", cost="0",
        source="Score-CAM, arXiv 1910.01279, section 4.3", verified="twin, closed forms",
        blind="the size of objects: compare `area_lift`; one bright pixel on the object is enough.",
    ),
    Metric(
        "map-iou", map_iou, "Intersection over union of the object and the pixels where the map is high.",
        best="high", range="[0, 1]; constant map the area of the object", needs="masks", cost="0",
        source="Model Guidance, arXiv 2303.11932, section 4", verified="twin, closed forms",
        blind="the threshold decides, and one outlier moves it: compare threshold=None.",
    ),
    Metric(
        "pointing-hit", pointing_hit, "Whether the highest pixel of the map lies on the object.",
        best="high", range="0 or 1, ties between; constant map the area of the object", needs="masks", cost="0",
        source="Zhang et al. 2016, arXiv 1608.00507, section 4.1", verified="twin, closed forms",
        blind="all pixels but one.",
    ),
)  # fmt: skip
