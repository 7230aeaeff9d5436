"""Methods that hide segments of the picture, and explain by a linear model of what is left: LIME and KernelSHAP."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import positive_integer
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.checks import inside, non_negative
from torchbcos.attribution.perturbation import asked, by, each, like, space_of, values_of
from torchbcos.attribution.record import DIFFERENCE, Method
from torchbcos.attribution.subject import Subject

__all__ = ["KernelShap", "Lime", "RECORDS"]

_SEGMENTS = 64  # of the usual grid, at most
_EACH = 4  # coalitions for each of its segments, at least
_NUMBERS = 2**27  # of the table of coalitions, at most: 1 GiB of float64


class _Fit(NamedTuple):
    """Which segments each coalition shows, and how scores become numbers of segments.

    Attributes:
        shown: (coalitions, M) bool.
        solve: scores of the coalitions (coalitions,) and of the picture () -> (M,), in float64.
    """

    shown: Tensor
    solve: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Surrogate(Explainer):
    """Settings and steps that both methods share."""

    _: KW_ONLY
    samples: int = 500
    segments: int | Sequence[int] | Tensor | NDArray[Any] | None = None
    spread: bool = True

    def compute(self, subject: Subject) -> Found:
        """One pass for each coalition, shared by all targets, and one for the picture."""
        samples = subject.samples or positive_integer(self.samples)
        if samples is None:
            raise InputError(f"samples must be a positive integer, not {self.samples!r}.")
        numbers, counts = _numbered(self.segments, space_of(subject), len(subject.x), samples)
        draws = subject.generator
        seed = int(torch.randint(2**62, (), generator=draws, device=draws.device))
        fits = {m: self._fit(m, samples, torch.Generator().manual_seed(seed + m)) for m in sorted(set(counts))}
        scores, values = _asked([fits[m].shown for m in counts], numbers, subject), values_of(subject)
        found = torch.zeros(*values.shape, max(counts), dtype=torch.float64)
        for i, k in itertools.product(*map(range, values.shape)):  # one by one: the same bits whatever is beside it
            m, fit = counts[i], fits[counts[i]]
            found[i, k, :m] = fit.solve(scores[i, k, : len(fit.shown)].clone(), values[i, k])
        maps, sums = _painted(found, numbers, self.spread, subject.x)
        missing = self._missing(sums, scores, values)
        delta = None if missing is None else like(subject.x, missing)
        return Found(maps.reshape(*maps.shape[:2], *subject.x.shape[2:]), None, delta)

    @abstractmethod
    def _fit(self, m: int, samples: int, generator: torch.Generator) -> _Fit:
        """Coalitions of m segments: the same for all images that have as many."""

    def _missing(self, sums: Tensor, scores: Tensor, values: Tensor) -> Tensor | None:
        """What the sums of maps (N, K) lack of the sum that is promised."""


@dataclass(frozen=True)
class Lime(_Surrogate):
    """LIME: a linear model of the output near the picture (Ribeiro, Singh, Guestrin 2016, arXiv 1602.04938, eq. 1 and 2).

    Segments of the picture are hidden at random: all their pixels, in all channels, become the `baseline`. Ridge regression
    with an intercept, of the output on which segments are shown, weighs each sample by its nearness `exp(-d² / (2 width²))`,
    where d is the cosine distance to "everything is shown". The picture itself is one more sample. Settings are those of the
    authors' code; that explains probabilities: give a function that returns them for the same.

    Args:
        samples: hidden copies; `samples` of `attribute` overrides it.
        segments: cells of a grid along an axis, one number or one an axis; or the number of the segment of each pixel, (*S) or
            (N, *S), of any segmentation: `skimage.segmentation.slic(photo)`, say. None: a grid of at most 64 cells, with at least
            four samples each.
        spread: the number of a segment is shared out among its pixels, so that sums over regions add up; False: every pixel has
            all of it, as in Captum.
        width: of the kernel.
        ridge: the penalty on the square of the numbers.
        probability: that a segment is shown.

    >>> method = Lime(lambda x: x.flatten(1).sum(1, keepdim=True), segments=2, ridge=0.0)
    >>> method.attribute(torch.ones(1, 1, 2, 2), target=0, baseline=0.0).round()
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """

    name: ClassVar[str] = "lime"
    _: KW_ONLY
    width: float = 0.25
    ridge: float = 1.0
    probability: float = 0.5

    def _fit(self, m: int, samples: int, generator: torch.Generator) -> _Fit:
        share, width, ridge = (
            inside(self.probability, "probability"),
            non_negative(self.width, "width"),
            non_negative(self.ridge, "ridge"),
        )
        if width == 0:
            raise InputError("width must be more than 0: no sample is near enough for a kernel without width.")
        _check(m, samples, least=m)
        shown = torch.rand(samples, m, generator=generator, dtype=torch.float64) < share
        z = torch.cat([torch.ones(1, m, dtype=torch.float64), shown.double()])
        weights = torch.exp(-((1 - (z.sum(1) / m).sqrt()) ** 2) / (2 * width**2))
        centred = z - (weights @ z) / weights.sum()
        weighted = centred.T * weights
        a = weighted @ centred + ridge * torch.eye(m, dtype=torch.float64)
        operator = torch.linalg.solve(_sound(a, samples), weighted)[:, 1:].contiguous()
        return _Fit(shown, lambda scores, value: operator @ (scores - value))


@dataclass(frozen=True)
class KernelShap(_Surrogate):
    """KernelSHAP: Shapley values of the segments of a picture (Lundberg and Lee 2017, arXiv 1705.07874, theorem 2).

    A coalition shows some segments; the others become the `baseline`. Least squares under the Shapley kernel
    `(M - 1) / (C(M, z) z (M - z))`, with the sum of all numbers held at `f(x) - f(baseline)`. With `2^M - 2 <= samples` every
    coalition is asked, and the numbers are the Shapley values. Otherwise the smallest and largest coalitions are all asked if
    samples suffice, and others are drawn in pairs, each with its complement (Covert and Lee 2021, arXiv 2012.01536).

    Args:
        samples: coalitions, at most, beside all and nothing; `samples` of `attribute` overrides it.
        segments: as in `Lime`.
        spread: the number of a segment is shared out among its pixels, so that the map sums to `f(x) - f(baseline)`; False: every
            pixel has all of it, as in Captum.

    >>> net = lambda x: x.flatten(1).prod(1, keepdim=True)
    >>> KernelShap(net, segments=2).attribute(torch.full((1, 1, 2, 2), 2.0), target=0, baseline=0.0)
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """

    name: ClassVar[str] = "kernel_shap"

    def _fit(self, m: int, samples: int, generator: torch.Generator) -> _Fit:
        nothing = torch.zeros(1, m, dtype=torch.bool)
        if m == 1:
            return _Fit(nothing, lambda scores, value: (value - scores[0]).reshape(1))
        if 2**m - 2 > samples:
            _check(m, samples, least=2 * (m - 1))
        shown, weights = _coalitions(m, samples, generator)
        z = shown.double()
        weighted = z.T * weights
        inverse = torch.linalg.inv(_sound(weighted @ z, samples))
        even = inverse.sum(1) / inverse.sum()  # how the numbers move when their sum does
        operator = (inverse - torch.outer(even, inverse.sum(0))) @ weighted

        def solve(scores: Tensor, value: Tensor) -> Tensor:
            base = scores[0]
            found: Tensor = operator @ (scores[1:] - base) + even * (value - base)
            return found + (value - base - found.sum()) / m  # what rounding left

        return _Fit(torch.cat([nothing, shown]), solve)

    def _missing(self, sums: Tensor, scores: Tensor, values: Tensor) -> Tensor | None:
        return values - scores[..., 0] - sums


# -- pictures ----------------------------------------------------------------------------------------------------------


def _asked(shown: list[Tensor], numbers: Tensor, subject: Subject) -> Tensor:
    """(N, K, coalitions) scores of the pictures that show some segments; of images with fewer coalitions the first ones count."""
    x, base, count = subject.x, subject.baseline, max(map(len, shown))
    alike = all(table is shown[0] for table in shown)
    tables = torch.ones(1 if alike else len(x), count, max(table.shape[1] for table in shown), dtype=torch.bool)
    for i, table in enumerate(shown[: len(tables)]):
        tables[i, : len(table), : table.shape[1]] = table
    tables, places = tables.to(x.device), numbers.flatten(1).to(x.device)

    def point(j: int) -> Tensor:
        rows = tables[:, j].expand(max(len(tables), len(places)), -1)
        there = rows.gather(1, places.expand(len(rows), -1))
        return torch.where(there.reshape(len(there), 1, *x.shape[2:]), x, base)

    return asked(subject, point, count)


def _painted(found: Tensor, numbers: Tensor, spread: bool, x: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, K, pixels) like x from the numbers of segments (N, K, M), and the sums (N, K) of shared-out ones in float64."""
    n, k, m = found.shape
    places = numbers.flatten(1).expand(n, -1)
    area = torch.zeros(n, m, dtype=torch.float64).scatter_add_(1, places, torch.ones(places.shape, dtype=torch.float64))
    area = area.gather(1, places).unsqueeze(1)
    whole = found.gather(2, places.unsqueeze(1).expand(n, k, -1))
    maps = like(x, whole / area if spread else whole)
    again = maps.to("cpu", torch.float64)
    return maps, (again if spread else again / area).sum(2)


# -- segments ----------------------------------------------------------------------------------------------------------


def _numbered(segments: object, space: tuple[int, ...], n: int, samples: int) -> tuple[Tensor, list[int]]:
    """Segments of every image, counted from 0: (N or 1, *S) int64, and how many each of the N has."""
    if isinstance(segments, np.ndarray) and segments.dtype.kind in "biuf":
        segments = torch.from_numpy(segments.astype(np.float64 if segments.dtype.kind == "f" else np.int64))
    if not isinstance(segments, Tensor):
        return _grid(segments, space, n, samples)
    if tuple(segments.shape) not in (space, (n, *space)):
        raise InputError(
            f"Segments of shape {tuple(segments.shape)} do not fit {n} pictures of {by(space)}: give one segmentation of this "
            "size for all of them, or one for each."
        )
    if segments.is_floating_point() and not bool(segments.isfinite().all()):
        raise InputError("Segments have NaN or infinite numbers: number every pixel's segment.")
    rows = segments.detach().cpu().reshape(-1, *space)
    found = [torch.unique(row, return_inverse=True) for row in rows]
    counts = [len(names) for names, _ in found]
    return torch.stack([numbers for _, numbers in found]), counts if len(counts) == n else counts * n


def _grid(segments: object, space: tuple[int, ...], n: int, samples: int) -> tuple[Tensor, list[int]]:
    """A grid with so many cells along an axis, at most one a pixel."""
    if isinstance(segments, np.ndarray):
        raise InputError(f"Segments are numbers, not an array of {segments.dtype}.")
    if segments is None:
        most = min(_SEGMENTS, samples // _EACH)
        wanted = [max(c for c in range(1, _SEGMENTS + 1) if c == 1 or c ** len(space) <= most)] * len(space)
        if wanted[0] == 1 and math.prod(space) > 1:
            raise InputError(f"samples={samples} are too few for a grid of segments: take {_EACH * 2 ** len(space)} or more.")
    else:
        wanted = list(each(segments, space, "segments"))
    numbers, cells = torch.zeros(space, dtype=torch.int64), 1
    for axis, (size, c) in enumerate(zip(space, wanted, strict=True)):
        c = min(c, size)
        at = torch.arange(size) * c // size
        numbers = numbers * c + at.reshape(-1, *(1,) * (len(space) - axis - 1))
        cells *= c
    return numbers.unsqueeze(0), [cells] * n


# -- coalitions --------------------------------------------------------------------------------------------------------


def _coalitions(m: int, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(coalitions, m) bool, without nothing and all, and their weights, which sum to 1."""
    sizes, pairs = _plan(m, samples)
    mass = [1 / (z * (m - z)) for z in range(1, m)]  # of all coalitions of a size, under the Shapley kernel
    rows = [row for z in sizes for row in _all_of(m, z)]
    weights = [mass[z - 1] / math.comb(m, z) for z in sizes for _ in range(math.comb(m, z))]
    shown = torch.zeros(len(rows), m, dtype=torch.bool)
    for j, row in enumerate(rows):
        shown[j, list(row)] = True
    if pairs:
        left = [z for z in range(1, m // 2 + 1) if z not in sizes]
        chances = torch.tensor([mass[z - 1] * (1 if 2 * z == m else 2) for z in left], dtype=torch.float64)
        picked = torch.tensor(left)[torch.multinomial(chances, pairs, replacement=True, generator=generator)]
        order = torch.rand(pairs, m, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
        some = order < picked.unsqueeze(1)
        shown = torch.cat([shown, some, ~some])
        weights += [float(chances.sum()) / (2 * pairs)] * (2 * pairs)
    return shown, torch.tensor(weights, dtype=torch.float64) / sum(mass)


def _plan(m: int, samples: int) -> tuple[list[int], int]:
    """Sizes of coalitions that are all asked, and how many pairs of the other sizes are drawn."""
    if 2**m - 2 <= samples:
        return list(range(1, m)), 0
    sizes: list[int] = []
    left, mass = samples, sum(1 / (z * (m - z)) for z in range(1, m))
    for z in range(1, m // 2 + 1):
        both = {z, m - z}
        number, share = math.comb(m, z) * len(both), len(both) / (z * (m - z))
        if number > left or number > 2 * left * share / mass:  # drawing would ask less than half of them
            break
        sizes += sorted(both)
        left, mass = left - number, mass - share
    return sizes, left // 2


def _all_of(m: int, z: int) -> Iterator[tuple[int, ...]]:
    return itertools.combinations(range(m), z)


def _check(m: int, samples: int, least: int) -> None:
    if samples < least:
        raise InputError(f"samples={samples} cannot tell {m} segments apart: take at least {least}, or fewer segments.")
    if samples * m > _NUMBERS:
        raise InputError(f"{samples:,} samples of {m:,} segments need too much memory: take fewer segments.")


def _sound(a: Tensor, samples: int) -> Tensor:
    """A symmetric matrix that can be inverted."""
    spectrum = torch.linalg.eigvalsh(a)
    if float(spectrum[0]) <= 1e-12 * float(spectrum[-1]):
        raise InputError(
            f"The {samples:,} samples do not tell all {len(a):,} segments apart: take more samples, or fewer segments."
        )
    return a


def _asks(space: Sequence[int]) -> int:
    """Passes of KernelSHAP with the usual settings."""
    _, (m, *_) = _grid(None, tuple(space), 1, 500)
    sizes, pairs = _plan(m, 500)
    return sum(math.comb(m, z) for z in sizes) + 2 * pairs + 2


RECORDS = (
    Method(
        Lime, "perturbation", "A linear model of which segments the output needs.", True, "", True, "any network", "500 + 1",
        lambda s, k: 501, "Ribeiro et al. 2016, arXiv 1602.04938", "twin, closed form, Captum",
    ),
    Method(
        KernelShap, "perturbation", "Shapley values of segments.", True, DIFFERENCE, True, "any network", "500 + 2",
        lambda s, k: _asks(s[2:]), "Lundberg and Lee 2017, arXiv 1705.07874", "twin, closed form, Captum",
    ),
)  # fmt: skip
