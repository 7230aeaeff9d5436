"""Whether metrics rank methods alike: Kendall's τ-b between metrics, with intervals over images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.passes import check_count, own_generator
from torchbcos.metrics.ranks import tau_b_of_all
from torchbcos.metrics.wide import wide

__all__ = ["RankAgreement", "rank_agreement", "rank_sentence"]

_PART = 64  # of the drawn sets of images, at a time
_ENDS = (0.025, 0.975)  # of the interval


@dataclass(frozen=True)
class RankAgreement:
    """How alike M metrics rank the same methods.

    Attributes:
        names: the metrics.
        tau: (M, M) float64, Kendall's τ-b: 1 for the same ranking, -1 for the opposite one; NaN where a metric gives all methods
            the same number, or has none for one of them (with `common`: for all but one).
        low, high: (M, M), ends of the interval that holds 95 % of τ-b over drawn sets of images; None if none were drawn.
    """

    names: tuple[str, ...]
    tau: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def sentences(self) -> list[str]:
        """A sentence for each two metrics that rank the methods differently: of which no part of the interval is above 0.

        >>> RankAgreement(("gini", "road"), torch.tensor([[1.0, -0.5], [-0.5, 1.0]])).sentences()
        ['gini and road rank the methods differently (τ-b -0.50).']
        """
        found = []
        for i, first in enumerate(self.names):
            for j in range(i + 1, len(self.names)):
                ends = None if self.low is None or self.high is None else (float(self.low[i, j]), float(self.high[i, j]))
                found.append(rank_sentence(first, self.names[j], float(self.tau[i, j]), ends))
        return [one for one in found if one is not None]


def rank_sentence(first: str, second: str, tau: float, ends: tuple[float, float] | None = None) -> str | None:
    """A sentence if two metrics rank methods differently: no part of the interval is above 0, or, without one, τ-b is not.

    Args:
        first, second: the metrics.
        tau: Kendall's τ-b between their rankings.
        ends: of its interval.

    Returns:
        The sentence; None if they do not, or if it is not known (NaN).

    >>> rank_sentence("gini", "road", -0.5, (-0.8, -0.1))
    'gini and road rank the methods differently (τ-b -0.50, 95 % between -0.80 and -0.10).'
    """
    if not (tau if ends is None else ends[1]) <= 0:
        return None
    between = "" if ends is None else f", 95 % between {ends[0]:.2f} and {ends[1]:.2f}"
    return f"{first} and {second} rank the methods differently (τ-b {tau:.2f}{between})."


def rank_agreement(
    scores: Mapping[str, Tensor],
    *,
    lower: Collection[str] = (),
    groups: Mapping[str, str] | None = None,
    common: bool = False,
    samples: int = 1000,
    generator: torch.Generator | None = None,
) -> RankAgreement:
    """Kendall's τ-b between the rankings that metrics give to methods, by their means over the images that have a number.

    The interval is a bootstrap over images: sets of as many images are drawn with repetition, the same for all metrics that
    were measured on the same images.

    Args:
        scores: name of a metric -> (methods, N), its number for each method and image; the same methods for all.
        lower: names of the metrics of which a low number is good; their order is turned round.
        groups: name of a metric -> name of its set of images. Metrics of one set have the same images in the same order and are
            drawn together; each set is drawn on its own. None: one set for all.
        common: τ-b of two metrics over the methods that have a number in both; else it is NaN where one has none.
        samples: sets that are drawn; 0 for no interval.
        generator: None: a fresh one with seed 0.

    Returns:
        τ-b of each two metrics.

    Raises:
        ArgumentTypeError: `scores` is no mapping to tensors.
        InputError: shapes differ, there are fewer than two methods, a name in `lower` or `groups` is none of the metrics, or a
            metric is in no group.

    >>> high, low = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]])
    >>> rank_agreement({"a": high, "b": low}, lower=["b"], samples=0).tau[0]
    tensor([1.0000, 0.3333], dtype=torch.float64)
    """
    sets = _checked(scores, lower, groups)
    count = check_count(samples, "samples", least=0)
    tau = _tau(_means(sets, [torch.ones(one.values.shape[2], 1) for one in sets]), common)[0]
    if not count:
        return RankAgreement(tuple(scores), tau)
    generator = own_generator(generator)
    parts = []
    for first in range(0, count, _PART):
        drawn = [[_draw(one.values.shape[2], generator) for one in sets] for _ in range(min(_PART, count - first))]
        parts.append(_tau(_means(sets, [torch.stack(one, 1) for one in zip(*drawn, strict=True)]), common))
    low, high = torch.cat(parts).nanquantile(torch.tensor(_ENDS, dtype=tau.dtype, device=tau.device), 0)
    return RankAgreement(tuple(scores), tau, low, high)


@dataclass(frozen=True)
class _Set:
    """Metrics of the same images: their places among all, and (m, methods, N) numbers, high is good."""

    places: list[int]
    values: Tensor


def _checked(scores: Mapping[str, Tensor], lower: Collection[str], groups: Mapping[str, str] | None) -> list[_Set]:
    if not isinstance(scores, Mapping) or not scores or not all(isinstance(one, Tensor) for one in scores.values()):
        raise ArgumentTypeError("rank_agreement expects a mapping from names of metrics to tensors (methods, N).")
    group = _group_of(scores, groups)
    first, methods = next((name, one.shape[0] if one.dim() else 0) for name, one in scores.items())
    heads: dict[str, str] = {}
    for name, one in scores.items():
        head = heads.setdefault(group[name], name)
        if one.dim() != 2 or one.shape != scores[head].shape or one.shape[0] != methods or methods < 2 or one.shape[1] < 1:
            like = head if head != name else first
            raise InputError(
                f"Each metric has numbers (methods, N) of two methods or more, the same for all: {name!r} has "
                f"{tuple(one.shape)}, {like!r} has {tuple(scores[like].shape)}."
            )
    strange = next((name for name in lower if name not in scores), None)
    if strange is not None:
        raise InputError(f"lower names {strange!r}, which is none of the metrics: {', '.join(scores)}.")
    turned = {name: wide(one.detach()) * (-1 if name in lower else 1) for name, one in scores.items()}
    return [
        _Set(
            [i for i, name in enumerate(scores) if group[name] == key],
            torch.stack([turned[n] for n in scores if group[n] == key]),
        )
        for key in heads
    ]


def _group_of(scores: Mapping[str, Tensor], groups: Mapping[str, str] | None) -> Mapping[str, str]:
    if groups is None:
        return dict.fromkeys(scores, "")
    strange = next((name for name in groups if name not in scores), None)
    if strange is not None:
        raise InputError(f"groups names {strange!r}, which is none of the metrics: {', '.join(scores)}.")
    missing = next((name for name in scores if name not in groups), None)
    if missing is not None:
        raise InputError(f"The metric {missing!r} is in no group: say on which set of images it was measured.")
    return groups


def _draw(images: int, generator: torch.Generator) -> Tensor:
    """How often each image is in a set of as many that is drawn with repetition."""
    chosen = torch.randint(images, (images,), generator=generator, device=generator.device)
    return torch.bincount(chosen, minlength=images)


def _means(sets: list[_Set], counts: list[Tensor]) -> Tensor:
    """(R, M, methods): means over the images that are defined, each as often as R drawn sets (N, R) hold it.

    In float32: methods that give one map up to rounding are tied, as they should be.
    """
    found = []
    for one, drawn in zip(sets, counts, strict=True):
        drawn = drawn.to(one.values)
        defined = (~one.values.isnan()).to(one.values.dtype)
        found.append((one.values.nan_to_num(0.0) @ drawn / (defined @ drawn)).permute(2, 0, 1).float())
    places = torch.tensor([place for one in sets for place in one.places], device=found[0].device)
    return torch.cat(found, 1)[:, places.argsort()]


def _tau(means: Tensor, common: bool) -> Tensor:
    """(R, M, M)."""
    tau = tau_b_of_all(means)
    if common:
        return tau
    lacking = means.isnan().any(2)
    return tau.masked_fill(lacking[:, :, None] | lacking[:, None], torch.nan)
