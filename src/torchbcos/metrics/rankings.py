"""Whether metrics rank methods alike: Kendall's τ-b between metrics, with intervals over images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.passes import check_count, own_generator
from torchbcos.metrics.ranks import kendall_tau_b
from torchbcos.metrics.wide import wide

__all__ = ["RankAgreement", "rank_agreement"]

_PART = 64  # of the drawn sets of images, at a time
_ENDS = (0.025, 0.975)  # of the interval


@dataclass(frozen=True)
class RankAgreement:
    """How alike M metrics rank the same methods.

    Attributes:
        names: the metrics.
        tau: (M, M) float64, Kendall's τ-b: 1 for the same ranking, -1 for the opposite one; NaN where a metric gives all methods
            the same number, or has none for one of them.
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
        upper = self.tau if self.high is None else self.high
        found = []
        for i, first in enumerate(self.names):
            for j in range(i + 1, len(self.names)):
                if bool(upper[i, j] <= 0):
                    between = (
                        "" if self.low is None else f", 95 % between {float(self.low[i, j]):.2f} and {float(upper[i, j]):.2f}"
                    )
                    words = f"τ-b {float(self.tau[i, j]):.2f}{between}"
                    found.append(f"{first} and {self.names[j]} rank the methods differently ({words}).")
        return found


def rank_agreement(
    scores: Mapping[str, Tensor], *, lower: Collection[str] = (), samples: int = 1000, generator: torch.Generator | None = None
) -> RankAgreement:
    """Kendall's τ-b between the rankings that metrics give to methods, by their means over the images that have a number.

    The interval is a bootstrap over images: sets of as many images are drawn with repetition, the same for all metrics.

    Args:
        scores: name of a metric -> (methods, N), its number for each method and image; the same methods and images for all.
        lower: names of the metrics of which a low number is good; their order is turned round.
        samples: sets that are drawn; 0 for no interval.
        generator: None: a fresh one with seed 0.

    Returns:
        τ-b of each two metrics.

    Raises:
        ArgumentTypeError: `scores` is no mapping to tensors.
        InputError: shapes differ, there are fewer than two methods, or a name in `lower` is none of the metrics.

    >>> high, low = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]])
    >>> rank_agreement({"a": high, "b": low}, lower=["b"], samples=0).tau[0]
    tensor([1.0000, 0.3333], dtype=torch.float64)
    """
    values = _checked(scores, lower)
    count = check_count(samples, "samples", least=0)
    tau = _tau(_means(values, torch.ones(values.shape[2], 1, dtype=values.dtype, device=values.device)))[0]
    if not count:
        return RankAgreement(tuple(scores), tau)
    generator = own_generator(generator)
    parts = []
    for first in range(0, count, _PART):
        drawn = [_draw(values.shape[2], generator) for _ in range(min(_PART, count - first))]
        parts.append(_tau(_means(values, torch.stack(drawn, 1).to(values))))
    low, high = torch.cat(parts).nanquantile(torch.tensor(_ENDS, dtype=tau.dtype, device=tau.device), 0)
    return RankAgreement(tuple(scores), tau, low, high)


def _checked(scores: Mapping[str, Tensor], lower: Collection[str]) -> Tensor:
    """(M, methods, N), high is good."""
    if not isinstance(scores, Mapping) or not scores or not all(isinstance(one, Tensor) for one in scores.values()):
        raise ArgumentTypeError("rank_agreement expects a mapping from names of metrics to tensors (methods, N).")
    first, shape = next((name, one.shape) for name, one in scores.items())
    for name, one in scores.items():
        if one.dim() != 2 or one.shape != shape or one.shape[0] < 2 or one.shape[1] < 1:
            raise InputError(
                f"Each metric has numbers (methods, N) of two methods or more, the same for all: {name!r} has "
                f"{tuple(one.shape)}, {first!r} has {tuple(shape)}."
            )
    strange = next((name for name in lower if name not in scores), None)
    if strange is not None:
        raise InputError(f"lower names {strange!r}, which is none of the metrics: {', '.join(scores)}.")
    return torch.stack([wide(one.detach()) * (-1 if name in lower else 1) for name, one in scores.items()])


def _draw(images: int, generator: torch.Generator) -> Tensor:
    """How often each image is in a set of as many that is drawn with repetition."""
    chosen = torch.randint(images, (images,), generator=generator, device=generator.device)
    return torch.bincount(chosen, minlength=images)


def _means(values: Tensor, counts: Tensor) -> Tensor:
    """(R, M, methods): means over the images that are defined, each as often as R sets (N, R) hold it.

    In float32: methods that give one map up to rounding are tied, as they should be.
    """
    defined = (~values.isnan()).to(values.dtype)
    return (values.nan_to_num(0.0) @ counts / (defined @ counts)).permute(2, 0, 1).float()


def _tau(means: Tensor) -> Tensor:
    """(R, M, M)."""
    metrics = means.shape[1]
    first, second = means[:, :, None].expand(-1, -1, metrics, -1), means[:, None].expand(-1, metrics, -1, -1)
    return wide(kendall_tau_b(first.double(), second.double()))
