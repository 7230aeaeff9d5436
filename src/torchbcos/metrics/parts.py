"""Parts of a picture: what a map says of them, and which of them tell classes apart.

Subsets of P parts are written as one number: bit p is set where part p is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.metrics.checks import check_maps

__all__ = ["BIRD_THRESHOLDS", "contrasting_classes", "important_parts", "minimal_part_sets", "part_importance", "subset_codes"]

BIRD_THRESHOLDS = tuple(0.01 + 0.49 * i / 79 for i in range(80))
_MOST_PARTS = 12  # 2^P subsets are listed


def part_importance(maps: Tensor, masks: Tensor, *, groups: Sequence[int] | None = None, dilation: int = 5) -> Tensor:
    """What a map says of every part: the signed sum of the map in the part's mask, dilated.

    Args:
        maps: (N, H, W).
        masks: (N, R, H, W) bool, one region each, or (1, R, H, W), the same for all maps. A part that is not seen has an empty
            mask, and importance 0.
        groups: the part of each of the R regions, numbers from 0 on: an eye is left and right. Each region is dilated for
            itself, and a pixel that lies in two dilated regions of a part counts twice, as in the official code. None: each
            region is a part.
        dilation: side of the square, in pixels, by which masks grow; odd; 1 for none.

    Returns:
        (N, P) float64.

    Raises:
        InputError: shapes do not fit, a map is not finite, masks are not bool, or `dilation` is even.

    >>> maps, masks = torch.ones(1, 9, 9), torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    >>> masks[0, 0, 4, 4] = True
    >>> part_importance(maps, masks).item(), part_importance(maps, masks, dilation=1).item()
    (25.0, 1.0)
    """
    maps = check_maps(maps)
    if masks.dim() != 4 or maps.dim() != 3 or masks.shape[2:] != maps.shape[1:] or len(masks) not in (1, len(maps)):
        raise InputError(
            f"Masks of parts are (N, R, H, W) and maps (N, H, W) of the same size, "
            f"not {tuple(masks.shape)} and {tuple(maps.shape)}."
        )
    if masks.dtype != torch.bool:
        raise InputError(f"Masks of parts are bool, not {masks.dtype}: compare with a threshold first.")
    if dilation < 1 or dilation % 2 == 0:
        raise InputError(f"dilation is an odd number of pixels, 1 or more, not {dilation}.")
    reach = dilation // 2
    rows = F.max_pool2d(masks.to(maps.device).float(), (1, dilation), 1, (0, reach))  # a square is a row of columns
    grown = F.max_pool2d(rows, (dilation, 1), 1, (reach, 0)) > 0
    sums = (maps.double()[:, None] * grown).flatten(2).sum(2)
    if groups is None:
        return sums
    if len(groups) != sums.shape[1] or min(groups, default=0) < 0:
        raise InputError(f"groups names the part of each of the {sums.shape[1]} regions, not {list(groups)[:20]}.")
    found = sums.new_zeros(len(sums), max(groups, default=-1) + 1)
    return found.index_add(1, torch.tensor(list(groups), device=sums.device, dtype=torch.int64), sums)


def important_parts(importance: Tensor, totals: Tensor, thresholds: Sequence[float] = BIRD_THRESHOLDS) -> Tensor:
    """Which parts a map calls important: those with more than the share t of the sum of the whole map.

    Where that sum is negative, t times it is negative, too, and all parts but strongly negative ones are important: the official
    code does so, and it is a reason to distrust thresholds on signed maps. Count such maps.

    Args:
        importance: (N, P), see `part_importance`; NaN: there is no such part.
        totals: (N,), the sum of every whole map.
        thresholds: T shares.

    Returns:
        (N, T, P) bool.

    Raises:
        InputError: shapes do not fit.

    >>> important_parts(torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([4.0]), [0.1, 0.5])[0].int().tolist()
    [[1, 1, 0], [1, 0, 0]]
    """
    if importance.dim() != 2 or totals.shape != importance.shape[:1]:
        raise InputError(f"Expected importance (N, P) and totals (N,), not {tuple(importance.shape)} and {tuple(totals.shape)}.")
    bounds = totals.double()[:, None] * torch.tensor(list(thresholds), dtype=torch.float64, device=totals.device)
    return importance.double()[:, None] > bounds[:, :, None]


def minimal_part_sets(classes: Tensor) -> tuple[Tensor, ...]:
    """The smallest sets of parts that tell a class from all others.

    Args:
        classes: (C, P) int64: the form of every part of every class.

    Returns:
        For each class (S, P) bool, S sets none of which contains another; S = 0 where another class has all the same parts.

    Raises:
        InputError: the shape is another, or there are more than 12 parts.

    >>> [found.int().tolist() for found in minimal_part_sets(torch.tensor([[0, 0], [0, 1], [1, 1]]))]
    [[[0, 1]], [[1, 1]], [[1, 0]]]
    """
    parts = _check_classes(classes)
    subsets = sorted(range(1, 2**parts), key=lambda code: (code.bit_count(), code))
    agree = subset_codes(classes[:, None] == classes)  # (C, C): which parts two classes share
    found = []
    for row, shared in enumerate(agree.tolist()):
        others = {code for column, code in enumerate(shared) if column != row}
        sets: list[int] = []
        for code in subsets:
            unique = not any(code & other == code for other in others)
            if unique and not any(code & smaller == smaller for smaller in sets):
                sets.append(code)
        found.append(
            torch.tensor([[bool(code >> p & 1) for p in range(parts)] for code in sets], dtype=torch.bool).view(-1, parts)
        )
    return tuple(found)


def contrasting_classes(classes: Tensor) -> Tensor:
    """For each class the first two others that share two of its parts each, and none of them both: the pair of TS.

    Args:
        classes: (C, P) int64: the form of every part of every class.

    Returns:
        (C, 2) int64; -1 where there is no such pair.

    Raises:
        InputError: as `minimal_part_sets`.

    >>> contrasting_classes(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]])).tolist()
    [[1, 2], [-1, -1], [-1, -1]]
    """
    _check_classes(classes)
    found = torch.full((len(classes), 2), -1)
    for row, shared in enumerate(subset_codes(classes[:, None] == classes).tolist()):
        pairs = [(column, code) for column, code in enumerate(shared) if code.bit_count() == 2]
        tried: set[int] = set()
        for place, (first, code) in enumerate(pairs):
            second = None if code in tried else next((c for c, other in pairs[place + 1 :] if not other & code), None)
            if second is not None:
                found[row] = torch.tensor([first, second])
                break
            tried.add(code)  # who comes later has fewer after it
    return found


def subset_codes(members: Tensor) -> Tensor:
    """Subsets (..., P) bool as numbers (...) int64: bit p is set where part p is in it.

    >>> subset_codes(torch.tensor([[True, False], [False, True], [True, True]])).tolist()
    [1, 2, 3]
    """
    return (members.long() << torch.arange(members.shape[-1], device=members.device)).sum(-1)


def _check_classes(classes: Tensor) -> int:
    if classes.dim() != 2 or classes.is_floating_point() or classes.numel() == 0:
        raise InputError(
            f"Expected classes (C, P) of int64, the form of every part, not {tuple(classes.shape)} of {classes.dtype}."
        )
    if classes.shape[1] > _MOST_PARTS:
        raise InputError(f"There are {classes.shape[1]} parts, and 2^P subsets of them: at most {_MOST_PARTS} are compared.")
    return classes.shape[1]
