"""What a comparison says of its numbers: means and medians with intervals over items, paired differences, rankings of methods.

An item is what was drawn from the data, a grid or a picture: the cells of one grid are no independent numbers, and stay together.
Intervals are bootstraps over items: sets of as many are drawn with repetition, and 95 % of what they give lies within.
All is computed in float64 on the CPU. Without a generator the same sets are drawn for all numbers of as many items.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import integer
from torchbcos.metrics.passes import check_count, own_generator
from torchbcos.metrics.rankings import rank_agreement, rank_sentence
from torchbcos.metrics.summing import PERCENTILES, summary

__all__ = ["UNDEFINED", "item_means", "pair", "rank_agreements", "rank_sentences", "row", "sign_test"]

UNDEFINED = ("zero", "skip")
_ENDS = (0.025, 0.975)
_PART = 1 << 22  # numbers held at a time: 32 MB
_EXACT = 10_000  # trials whose binomial sum is computed in whole numbers
_ROUNDING = 8 * torch.finfo(torch.float32).eps  # of the larger number: what float32 may make of one map


def row(
    values: Tensor, *, undefined: str = "zero", samples: int = 2000, generator: torch.Generator | None = None
) -> dict[str, float]:
    """What is to be said of one method and metric: how many numbers, where they lie, and how sure the mean and the median are.

    Args:
        values: (items, V), NaN where the metric is undefined; V = n² for the cells of a grid, else 1. (items,) is V = 1.
        undefined: "zero" counts an undefined number as 0, everywhere below: of a metric that is good if high, nobody gains by
            having none. "skip" leaves it out, for all other metrics.
        samples: sets of items that are drawn; 0 for no interval.
        generator: None: a fresh one with seed 0.

    Returns:
        "n" (items), "values" (items · V), "undefined" (how many of them), "mean", "mean_low", "mean_high", "median",
        "median_low", "median_high" (ends of the intervals over items), "p5", "p25", "p50" (the median again), "p75". The ends
        are NaN for one item; all but the counts are NaN where no number is defined.

    Raises:
        ArgumentTypeError: `values` is no tensor.
        InputError: it has other axes, or `undefined` is another word.

    >>> found = row(torch.tensor([[1.0, 0.5], [0.0, float("nan")], [1.0, 1.0]]))
    >>> found["n"], found["values"], found["undefined"], round(found["mean"], 3), found["median"]
    (3, 6, 1, 0.583, 0.75)
    """
    values = _items(values)
    filled = _filled(values, undefined)
    numbers = {name: float(one) for name, one in summary(filled.flatten()).items()}
    resampled = _Resampled(filled)
    mean, median = resampled.intervals(check_count(samples, "samples", least=0), generator)
    return {
        "n": values.shape[0],
        "values": values.numel(),
        "undefined": int(values.isnan().sum()),
        **_between("mean", resampled.mean, mean),
        **_between("median", numbers["p50"], median),
        **{f"p{share}": numbers[f"p{share}"] for share in PERCENTILES},
    }


def item_means(values: Tensor, *, undefined: str = "zero") -> Tensor:
    """One number an item: the mean of its V numbers.

    Args:
        values: (items, V) or (items,), NaN where the metric is undefined.
        undefined: "zero": an undefined number counts as 0, unless not a single one of all items is defined; "skip": it is left
            out.

    Returns:
        (items,) float64 on the CPU, NaN where nothing is defined.

    >>> item_means(torch.tensor([[1.0, float("nan")], [0.5, 0.5]]))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return _filled(_items(values), undefined).nanmean(1)


def pair(
    a: Tensor,
    b: Tensor,
    *,
    lower: bool = False,
    undefined: str | None = None,
    samples: int = 2000,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Two methods on the same items: how much a has more than b, item by item, and whether that is chance.

    The differences of items are less spread than two rows beside each other, for both methods find the same items hard. An
    item is tied if its difference is no more than rounding in float32: two methods may be one.

    Args:
        a, b: (items, V) or (items,), the same items in the same order, NaN where the metric is undefined.
        lower: a low number is good.
        undefined: "zero" counts an undefined number as 0; with "skip" the mean of an item is over the numbers it has, and an
            item that has none in one of the methods is left out. None: "skip" if a low number is good, else "zero".
        samples: sets of items that are drawn; 0 for no interval.
        generator: None: a fresh one with seed 0.

    Returns:
        "n" (items that are compared), "difference" (mean of a - b, whatever is good), "low", "high" (ends of its interval, NaN
        for one item), "better", "worse", "tied" (items in which a is), and "p" (`sign_test`). A method without a single
        number is not compared: n is 0, and the numbers are NaN.

    Raises:
        ArgumentTypeError: a or b is no tensor.
        InputError: their shapes differ, or `undefined` is another word.

    >>> found = pair(torch.tensor([0.9, 0.8, 0.7, 0.5]), torch.tensor([0.5, 0.6, 0.6, 0.5]))
    >>> found["better"], found["worse"], found["tied"], round(found["difference"], 3), found["p"]
    (3, 0, 1, 0.175, 0.25)
    """
    first, second = _items(a, "a"), _items(b, "b")
    if first.shape != second.shape:
        raise InputError(
            f"Two methods are compared on the same items: a is {tuple(first.shape)}, and b is {tuple(second.shape)}. Leave out "
            "the items that one of them lacks."
        )
    rule = undefined or ("skip" if lower else "zero")
    of_a, of_b = item_means(first, undefined=rule), item_means(second, undefined=rule)
    apart = of_a - of_b  # NaN for two infinities that are one: nothing is known of how far they are apart
    apart = torch.where(of_a == of_b, 0.0, apart)
    both = ~apart.isnan()
    of_a, of_b, apart = of_a[both], of_b[both], apart[both]
    tied = (apart == 0) | (apart.abs() <= _ROUNDING * torch.maximum(of_a.abs(), of_b.abs()).nan_to_num(0.0, 0.0, 0.0))
    more, less = int(((apart > 0) & ~tied).sum()), int(((apart < 0) & ~tied).sum())
    better, worse = (less, more) if lower else (more, less)
    resampled = _Resampled(apart[:, None])
    (low, high), _ = resampled.intervals(check_count(samples, "samples", least=0), generator, median=False)
    return {
        "n": len(apart),
        "difference": resampled.mean,
        "low": low,
        "high": high,
        "better": better,
        "worse": worse,
        "tied": int(tied.sum()),
        "p": sign_test(better, worse) if len(apart) else math.nan,
    }


def sign_test(better: int, worse: int) -> float:
    """Exact two-sided sign test: how probable so uneven counts are, or less even ones, if both methods are equally good.

    `p = min(1, 2 Σ_{k ≤ min(better, worse)} C(n, k) / 2ⁿ)` with n = better + worse; ties are left out before.

    Args:
        better, worse: items in which one method is better, and in which it is worse.

    Returns:
        p in [0, 1]; 1 if both are 0.

    Raises:
        InputError: one is no whole number, or negative.

    >>> sign_test(9, 1), sign_test(3, 3), sign_test(0, 0)
    (0.021484375, 1.0, 1.0)
    """
    counts = [integer(better), integer(worse)]
    if any(one is None or one < 0 for one in counts):
        raise InputError(f"better and worse are counts of items, whole numbers from 0, not {better!r} and {worse!r}.")
    few, many = sorted(one for one in counts if one is not None)
    trials = few + many
    if few == many:
        return 1.0
    return min(1.0, _exact_tail(trials, few) if trials <= _EXACT else _far_tail(trials, few))


def rank_agreements(
    values: Mapping[str, Tensor],
    *,
    groups: Mapping[str, str] | None = None,
    lower: Collection[str] = (),
    samples: int = 2000,
    generator: torch.Generator | None = None,
) -> list[dict[str, str | float]]:
    """Kendall's τ-b between the rankings that each two metrics give to the same methods (`metrics.rank_agreement`).

    Methods are ranked by their means as in `row`: an undefined number counts as 0, in metrics of `lower` it is left out. Two
    metrics are compared over the methods that have a number in both.

    Args:
        values: name of a metric -> (methods, items) or (methods, items, V), the same methods for all. Leave out metrics that are
            good neither high nor low: they rank nothing.
        groups: name of a metric -> name of its set of items ("grids", "pictures"). Metrics of one set have the same items in
            the same order and are drawn together. None: one set.
        lower: names of the metrics of which a low number is good.
        samples: sets that are drawn; 0 for no interval.
        generator: None: a fresh one with seed 0.

    Returns:
        A record for each two metrics, in their order: "first", "second", "tau", "low", "high"; NaN where it is undefined.

    >>> scores = {"road": torch.tensor([[3.0, 3.0], [2.0, 2.0]]), "deletion": torch.tensor([[0.1], [0.2]])}
    >>> rank_agreements(scores, groups={"road": "grids", "deletion": "pictures"}, lower=["deletion"], samples=9)
    [{'first': 'road', 'second': 'deletion', 'tau': 1.0, 'low': 1.0, 'high': 1.0}]
    """
    if not isinstance(values, Mapping) or not all(isinstance(one, Tensor) for one in values.values()):
        raise ArgumentTypeError("values are a mapping from names of metrics to tensors (methods, items).")
    means = {}
    for name, one in values.items():
        if one.dim() not in (2, 3):
            raise InputError(f"Numbers of a metric are (methods, items) or (methods, items, V): {name!r} has {tuple(one.shape)}.")
        rule = "skip" if name in lower else "zero"
        means[name] = torch.stack([item_means(method, undefined=rule) for method in one])
    if len(means) < 2:
        return []
    found = rank_agreement(means, lower=lower, groups=groups, common=True, samples=samples, generator=generator)
    nothing = torch.full_like(found.tau, torch.nan)
    low, high = (nothing if ends is None else ends for ends in (found.low, found.high))
    return [
        {
            "first": first, "second": found.names[j],
            "tau": float(found.tau[i, j]), "low": float(low[i, j]), "high": float(high[i, j]),
        }
        for i, first in enumerate(found.names)
        for j in range(i + 1, len(found.names))
    ]  # fmt: skip


def rank_sentences(records: Collection[Mapping[str, object]]) -> list[str]:
    """A sentence for each record of `rank_agreements` whose two metrics rank the methods differently.

    >>> rank_sentences([{"first": "road", "second": "gini", "tau": -0.5, "low": -0.7, "high": -0.1}])
    ['road and gini rank the methods differently (τ-b -0.50, 95 % between -0.70 and -0.10).']
    """
    found = []
    for one in records:
        tau, low, high = (math.nan if one[key] is None else float(str(one[key])) for key in ("tau", "low", "high"))
        ends = None if math.isnan(low) or math.isnan(high) else (low, high)
        found.append(rank_sentence(str(one["first"]), str(one["second"]), tau, ends))
    return [one for one in found if one is not None]


def _exact_tail(trials: int, few: int) -> float:
    """2 Σ_{k ≤ few} C(trials, k) / 2^trials, in whole numbers to the last division."""
    term = total = 1
    for k in range(1, few + 1):
        term = term * (trials - k + 1) // k
        total += term
    return total / (1 << (trials - 1))


def _far_tail(trials: int, few: int) -> float:
    """The same by logarithms: whole numbers of so many digits are slow."""
    n, k = torch.tensor(float(trials), dtype=torch.float64), torch.arange(few + 1, dtype=torch.float64)
    logs = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - (trials - 1) * math.log(2)
    return math.exp(float(logs.logsumexp(0)))


def _items(values: object, name: str = "values") -> Tensor:
    """(items, V) float64 on the CPU."""
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor (items, V), not {type(values).__name__}: torch.as_tensor({name}).")
    if values.dim() not in (1, 2) or values.is_complex():
        raise InputError(f"{name} must be real numbers (items, V) or (items,), not {tuple(values.shape)} of {values.dtype}.")
    wide = values.detach().to("cpu", torch.float64)
    return wide[:, None] if wide.dim() == 1 else wide


def _filled(values: Tensor, undefined: str) -> Tensor:
    """The numbers with 0 for what is undefined and counts so; as they are where nothing is defined."""
    if undefined not in UNDEFINED:
        raise InputError(f"undefined is 'zero' or 'skip', not {undefined!r}.{hint(str(undefined), UNDEFINED)}")
    lacking = values.isnan()
    return values if undefined == "skip" or bool(lacking.all()) else values.masked_fill(lacking, 0.0)


def _between(name: str, value: float, ends: tuple[float, float]) -> dict[str, float]:
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


class _Resampled:
    """Means and medians of drawn sets of items (items, V), NaN left out, from how often each item is in a set."""

    def __init__(self, values: Tensor) -> None:
        flat = values.flatten()
        there = ~flat.isnan()
        self.numbers, order = flat[there].sort()
        self.item = torch.arange(len(values)).repeat_interleave(values.shape[1])[there][order]
        # a number from the middle: numbers that are all the same keep their mean to the last bit
        self.zero = self.numbers[len(self.numbers) // 2].nan_to_num(0.0, 0.0, 0.0) if len(self.numbers) else flat.new_zeros(())
        self.sums = torch.where(values.isfinite(), values - self.zero, 0.0).sum(1)
        self.defined = (~values.isnan()).double().sum(1)
        self.infinite = (
            (values.isposinf().double().sum(1), values.isneginf().double().sum(1)) if bool(flat.isinf().any()) else None
        )
        self.mean = float(self.means(torch.ones(1, len(values), dtype=torch.float64)))

    def intervals(
        self, samples: int, generator: torch.Generator | None, *, median: bool = True
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ends of the intervals of the mean and of the median."""
        items, nothing = len(self.sums), (math.nan, math.nan)
        if items < 2 or not samples or not len(self.numbers):
            return nothing, nothing
        means, medians = [], []
        for counts in _drawn(items, samples, generator):
            means.append(self.means(counts))
            if median:
                medians.append(self.medians(counts))
        return _interval(torch.cat(means)), _interval(torch.cat(medians)) if median else nothing

    def means(self, counts: Tensor) -> Tensor:
        """(R,) of counts (R, items); NaN for a set without a number."""
        found = self.zero + counts @ self.sums / (counts @ self.defined)
        if self.infinite is not None:
            up, down = (counts @ one > 0 for one in self.infinite)
            found = torch.where(up, math.inf, torch.where(down, -math.inf, found)).masked_fill(up & down, math.nan)
        return found

    def medians(self, counts: Tensor) -> Tensor:
        """(R,) of counts (R, items); NaN for a set without a number."""
        found = []
        for part in torch.split(counts, max(1, _PART // len(self.item))):
            upto = part.index_select(1, self.item).cumsum(1, dtype=torch.int32)
            size = upto[:, -1:]
            places = torch.searchsorted(upto, torch.cat([size - 1, size], 1) // 2, right=True).clamp_max(len(self.item) - 1)
            low, high = self.numbers[places].unbind(1)
            found.append(torch.where(low == high, low, low * 0.5 + high * 0.5).masked_fill(size[:, 0] == 0, math.nan))
        return torch.cat(found)


def _interval(found: Tensor) -> tuple[float, float]:
    """Where 95 % of the numbers lie that are defined, percentiles as in `summary`."""
    ordered = found[~found.isnan()].sort().values
    if not len(ordered):
        return math.nan, math.nan
    ends = []
    for share in _ENDS:
        place = share * (len(ordered) - 1)
        low, high = float(ordered[int(place)]), float(ordered[math.ceil(place)])
        weight = place - int(place)
        ends.append(low if low == high else low * (1 - weight) + high * weight)
    return ends[0], ends[1]


def _drawn(items: int, samples: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """How often each item is in each drawn set, (R, items) float64, in parts that fit the memory."""
    if generator is None and items * samples <= _PART:
        yield _kept(items, samples)
        return
    own = own_generator(generator)
    step = max(1, _PART // items)
    for first in range(0, samples, step):
        yield _draw(items, min(step, samples - first), own)


@lru_cache(maxsize=4)
def _kept(items: int, samples: int) -> Tensor:
    """The sets of a fresh generator: many rows and pairs of a comparison ask for the same."""
    return _draw(items, samples, own_generator(None))


def _draw(items: int, samples: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randint(items, (samples, items), generator=generator, device=generator.device).cpu()
    return torch.zeros(samples, items, dtype=torch.float64).scatter_add_(
        1, chosen, torch.ones((), dtype=torch.float64).expand(samples, items)
    )
