"""How much two maps of one image say the same: each other's agreement, the maps of another class, methods that are one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.ranks import average_ranks, levelled, pearson, spearman
from torchbcos.metrics.wide import wide

__all__ = ["KINDS", "METRICS", "agreement", "label_sensitivity", "same_maps"]

KINDS = ("spearman", "pearson", "top_k", "rank", "sign", "signed_rank")
_POOL = 14  # cells an axis: as many as most networks' last features have
_LEVEL = 1e-12  # of the largest magnitude: a range that rounding alone makes
_POOLING: tuple[Callable[..., Tensor], ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


def agreement(a: Tensor, b: Tensor, kind: str = "spearman", *, pool: int | None = _POOL, top: float = 0.1) -> Tensor:
    """How much two maps of one image agree, after both were averaged over the cells of a coarse grid.

    Single pixels are mostly noise; a grid of 14×14 asks whether two maps point to the same places. The kinds but the two
    correlations are those of Krishna et al. (arXiv 2202.01602): of the `top` cells of the largest magnitude in one
    map, the part that is among them in the other map ("top_k"), and has there the same rank, too ("rank"), the same sign
    ("sign"), or both ("signed_rank"). Cells that are equal share the places that are left for them; no order of pixels
    decides.

    Args:
        a, b: (N, *S), two maps of each image.
        kind: "spearman" or "pearson" (correlations, in [-1, 1]), or one of the four above (in [0, 1]).
        pool: cells an axis of the grid, for maps of one to three space axes; None compares pixels. An axis with fewer pixels
            stays as it is.
        top: the part of the cells that "top_k" and its relatives look at; at least one cell.

    Returns:
        (N,), in float64 if one of the maps is, else in float32. NaN where a map has the same number everywhere.

    Raises:
        InputError: the maps differ in shape, a number is not finite, or an argument is none of those above.

    >>> a, b = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 2.0, 4.0, 3.0]])
    >>> agreement(a, b), agreement(a, -a), agreement(a, b, "top_k", top=0.5), agreement(a, b, "rank", top=0.5)
    (tensor([0.8000]), tensor([-1.]), tensor([1.]), tensor([0.]))
    """
    if kind not in KINDS:
        raise InputError(f"kind is one of {', '.join(KINDS)}, not {kind!r}.{hint(str(kind), KINDS)}")
    if isinstance(top, bool) or not isinstance(top, (int, float)) or not 0 < top <= 1:
        raise InputError(f"top is a part of the cells, above 0 and at most 1, not {top!r}.")
    a, b = _pair(a, b)
    dtype = torch.promote_types(a.dtype, b.dtype)
    (a, flat_a), (b, flat_b) = (_cells(maps, pool) for maps in (a, b))
    if kind == "pearson":
        found = pearson(a, b)
    elif kind == "spearman":
        found = spearman(a, b)
    else:
        found = _shared(a, b, kind, max(1, round(top * a.shape[1])))
    return torch.where(flat_a | flat_b, torch.nan, found).to(dtype)


def label_sensitivity(maps: Tensor, others: Tensor, kind: str = "spearman", *, pool: int | None = _POOL) -> Tensor:
    """How much the map of a class is that of another class, too: 1 for a method that does not look at the class.

    The random logit test (Sixt et al., arXiv 1912.09818): a map that explains a class differs from the map of another class.
    Two maps of the same positions have the background in common, so a value between 0 and 1 is usual; beside it belongs the
    agreement of maps of two images.

    Args:
        maps: (N, *S), of one class an image: the target, say.
        others: (N, *S), of another class of the same images.
        kind, pool: as of `agreement`.

    Returns:
        (N,), in [-1, 1] for a correlation; low is sensitive. NaN where a map has the same number everywhere.

    Raises:
        InputError: as `agreement`.

    >>> maps = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> label_sensitivity(maps, 2 * maps), label_sensitivity(maps, maps.flip(1))
    (tensor([1.]), tensor([-1.]))
    """
    return agreement(maps, others, kind, pool=pool)


def same_maps(maps: Mapping[str, Tensor], *, threshold: float = 0.9999) -> list[tuple[str, ...]]:
    """Which methods are one method here: groups of names whose maps correlate above a threshold on every image.

    On a B-cos CNN without biases, input times gradient, integrated gradients from zeros and DeepLIFT give one map: a table
    that lists them as three competitors counts one result three times.

    Args:
        maps: name of a method -> (N, *S), of the same images.
        threshold: of Pearson's correlation of whole maps; it does not see a factor, nor an offset. Two maps without any
            difference between pixels are the same, and no other is the same as they.

    Returns:
        The groups of two names or more, in the order of the mapping; in a group each is the same as each.

    Raises:
        InputError: the maps differ in shape, or a number is not finite.

    >>> a = torch.tensor([[1.0, 2.0, 4.0]])
    >>> same_maps({"ixg": a, "random": a.flip(1), "ig": 2 * a})
    [('ixg', 'ig')]
    """
    if not isinstance(maps, Mapping) or not maps:
        raise ArgumentTypeError("same_maps expects a mapping from names of methods to maps (N, H, W).")
    first = next(iter(maps))
    checked = {name: _pair(maps[first], one, first, name)[1] for name, one in maps.items()}
    whole = {name: _cells(one, None) for name, one in checked.items()}
    groups: list[list[str]] = []
    for name in whole:
        fitting = (group for group in groups if all(_same(whole[name], whole[other], threshold) for other in group))
        if (group := next(fitting, None)) is not None:
            group.append(name)
        else:
            groups.append([name])
    return [tuple(group) for group in groups if len(group) > 1]


def _same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], threshold: float) -> bool:
    (a, flat_a), (b, flat_b) = one, other
    return bool(torch.where(flat_a | flat_b, flat_a & flat_b, pearson(a, b) > threshold).all())


def _pair(a: Tensor, b: Tensor, first: str = "a", second: str = "b") -> tuple[Tensor, Tensor]:
    """Two maps of each image, checked."""
    a, b = check_maps(a, first), check_maps(b, second)
    if a.shape != b.shape:
        raise InputError(
            f"Maps of shape {tuple(a.shape)} ({first}) and {tuple(b.shape)} ({second}) cannot be compared: resize one of them."
        )
    return a, b.to(a.device)


def _cells(maps: Tensor, pool: int | None) -> tuple[Tensor, Tensor]:
    """(N, cells) averages, in units of each map's largest magnitude, and (N,) whether all of them are one number.

    Cells of one number have means that differ by rounding, in the same places of every map: these are made equal.
    """
    values = wide(maps)
    values = values / values.flatten(1).abs().amax(1).clamp(min=torch.finfo(values.dtype).tiny).view(-1, *(1,) * (maps.dim() - 1))
    if pool is not None:
        size = positive_integer(pool)
        if size is None:
            raise InputError(f"pool is a number of cells an axis, or None for pixels, not {pool!r}.")
        axes = maps.shape[1:]
        if len(axes) > len(_POOLING):
            raise InputError(f"Maps of {len(axes)} space axes are compared pixel by pixel only: pool=None.")
        pooling = _POOLING[len(axes) - 1]
        values = pooling(values[:, None], [min(size, axis) for axis in axes])[:, 0]
    values = values.flatten(1)
    if pool is not None:
        values = levelled(torch.where(values.abs() <= _LEVEL, 0.0, values), _LEVEL).to(values)
    return values, values.amax(1) - values.amin(1) <= _LEVEL


def _shared(a: Tensor, b: Tensor, kind: str, count: int) -> Tensor:
    """What the `count` largest cells of two maps have in common, as a part of them."""
    sizes = [levelled(cells.abs(), _LEVEL) for cells in (a, b)]
    common = torch.minimum(*(_among_top(size, count) for size in sizes))
    if kind in ("rank", "signed_rank"):
        common = common * (average_ranks(sizes[0]) == average_ranks(sizes[1]))
    if kind in ("sign", "signed_rank"):
        common = common * (a.sign() == b.sign())
    return common.sum(1) / count


def _among_top(values: Tensor, count: int) -> Tensor:
    """How much of each cell is among the `count` largest: 1, 0, or an equal part of the places that are left."""
    least = values.topk(count, 1).values[:, -1:]
    above, level = values > least, values == least
    left = (count - above.sum(1, keepdim=True)).to(values.dtype) / level.sum(1, keepdim=True)
    return above + level * left


METRICS = (
    Metric(
        name="label-sensitivity",
        function=label_sensitivity,
        summary="How much the map of a class is that of another class, too.",
        best="low",
        range="[-1, 1]; a method that ignores the class 1, uniform undefined",
        needs="maps of two classes",
        cost="one more map",
        source="Sixt et al. 2020, arXiv 1912.09818",
        verified="twin, closed form, SciPy spearmanr",
        blind="Maps that are noise differ most; objects that share their evidence are punished.",
    ),
    Metric(
        name="agreement",
        function=agreement,
        summary="How much two methods' maps of one image agree, on a grid of 14×14 cells.",
        best="neither",
        range="[-1, 1] or [0, 1]; uniform undefined",
        needs="maps of two methods",
        cost="0",
        source="Krishna et al. 2022, arXiv 2202.01602",
        verified="twin, closed form, SciPy spearmanr",
        blind="Two methods may agree on the same wrong place; the size of the grid decides how much is noise.",
    ),
)
