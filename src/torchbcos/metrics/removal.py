"""Removal curves: how the score falls, or rises, as pixels go in the order of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.imputing import remover
from torchbcos.metrics.passes import Predict, Replace, check_count, check_pictures, outcomes, own_generator

__all__ = ["Curve", "area", "gap", "removal_curve", "removal_order"]


@dataclass(frozen=True)
class Curve:
    """What is left of the score while pixels go.

    Attributes:
        fractions: (F,) share of the pixels that was removed, or kept (`keep`), at each point: the actual one, whole pixels.
        values: (N, F).
        keep: whether the first pixels of the order were kept, and the rest removed.
    """

    fractions: Tensor
    values: Tensor
    keep: bool = False


def removal_order(
    maps: Tensor,
    *,
    first: str = "most",
    ties: str = "random",
    generator: torch.Generator | None = None,
    sign: str = "signed",
) -> Tensor:
    """The order in which pixels go: the most important first, or the least.

    Args:
        maps: (N, H, W), or any number of space axes.
        first: "most" or "least".
        ties: equal pixels go at "random" (one drawn order of all pixels decides, the same for all images, so that an
            image's order does not depend on its batch), in "raster" order, or "reversed" (from the last pixel: what a
            flipped argsort does). A constant map has no order, and the tie rule alone decides its score.
        generator: of the ties; None: a fresh one, seed 0.
        sign: "signed" (negative pixels are least important), "positive" (negative pixels count as 0) or "absolute".

    Returns:
        (N, H*W) int64: numbers of pixels, row by row; `[:, 0]` goes first.

    Raises:
        InputError: an option is unknown, or the maps are not finite.

    >>> removal_order(torch.tensor([[[1.0, 4.0], [3.0, 2.0]]]))
    tensor([[1, 2, 3, 0]])
    """
    flat = check_maps(maps).flatten(1)
    _check_option(first, "first", ("most", "least"))
    _check_option(ties, "ties", ("random", "raster", "reversed"))
    _check_option(sign, "sign", ("signed", "positive", "absolute"))
    if sign != "signed":
        flat = flat.abs() if sign == "absolute" else flat.clamp_min(0)
    pixels = flat.shape[1]
    generator = own_generator(generator)
    if ties == "random":
        before = torch.randperm(pixels, generator=generator, device=generator.device).to(flat.device)
    else:
        before = torch.arange(pixels, device=flat.device)
        before = before.flip(0) if ties == "reversed" else before
    # + 0.0: a radix sort would tell -0.0 from 0.0
    return before[(flat[:, before] + 0.0).argsort(stable=True, dim=1, descending=first == "most")]


def removal_curve(
    predict: Predict,
    x: Tensor,
    order: Tensor,
    *,
    replace: Replace = "grey",
    fractions: int | Sequence[float] | Tensor = 50,
    keep: bool = False,
    batch_size: int = 16,
    targets: Tensor | None = None,
    noise: Tensor | None = None,
) -> Curve:
    """The score after the first pixels of an order are removed; or while only they are kept.

    At the fraction f the first round(f·H·W) pixels are replaced. At 0 the network gets x itself, at 1 the replacement itself;
    with `keep` it is the other way round (insertion).

    Args:
        predict: (b, C, H, W) -> (b,): the score. Pictures and steps share batches: it must not count on the order of pictures.
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        order: (N, H*W) of `removal_order`.
        replace: what removed pixels become, as `functional.replace.replacement` takes it ("grey", "mean", "blur", "black",
            "white", "zero6", a number, a tensor, a function of x); or "linear", from their neighbours (`impute_linear`).
        fractions: number of even steps from 0 to 1 (50: 51 points); or the fractions themselves, increasing, in [0, 1].
        keep: keep the first pixels, and remove the others.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes: `predict` then gives all classes (b, K), and each picture is asked for its own.
        noise: with "linear": (1, C, H, W), added to removed pixels, the same at every step; `road` draws it.

    Returns:
        The curve; its fractions are those of whole pixels.

    Raises:
        InputError: shapes do not fit, the order is no permutation, or the fractions are none.

    >>> x = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
    >>> removal_curve(lambda x: x.sum((1, 2, 3)), x, removal_order(x[:, 0]), replace=0.0, fractions=4).values
    tensor([[10.,  6.,  3.,  1.,  0.]])
    """
    x = check_pictures(x)
    rank = _ranks(order, x)
    pixels = rank.shape[1]
    counts = _counts(fractions, pixels)
    _check_rest(replace, int(counts[0]) if keep else pixels - int(counts[-1]))
    asked, points = torch.unique(counts.to(x.device), return_inverse=True)
    removed = remover(x, replace, noise)
    rank = rank.view(len(x), *x.shape[2:])

    def build(images: Tensor, steps: Tensor) -> Tensor:
        first = rank[images] < asked[steps].view(-1, *(1,) * (x.dim() - 2))
        return removed(images, ~first if keep else first)

    values = outcomes(predict, build, len(x), len(asked), batch_size=batch_size, targets=targets, device=x.device)
    values = values[:, points.to(values.device)]
    return Curve((asked[points].double() / pixels).to(values), values, keep)


def area(curve: Curve, *, normalised: bool = False) -> Tensor:
    """The area under a curve, by trapezoids over its actual fractions.

    Args:
        curve: of `removal_curve`.
        normalised: divided by f(x) - f(baseline), the curve's own ends.

    Returns:
        (N,), of the dtype of the values. Normalised: NaN where both ends are equal; where the baseline scores higher than the
        picture, the sign turns.

    Raises:
        InputError: the curve has one point, or its ends, which normalise it, are not 0 and 1.

    >>> area(Curve(torch.tensor([0.0, 0.1, 1.0]), torch.tensor([[1.0, 0.0, 0.0]])))
    tensor([0.0500])
    """
    found = _area(curve)
    return (found / _span(curve) if normalised else found).to(curve.values.dtype)


def gap(most: Curve, least: Curve, *, normalised: bool = False) -> Tensor:
    """How far apart the two orders are: area(least first) - area(most first), the area between the curves.

    Of an additive model the two areas sum to f(x) + f(baseline) whatever the map: only their gap tells something.

    Args:
        most: the curve of `removal_order(first="most")`.
        least: that of `first="least"`, of the same steps.
        normalised: divided by f(x) - f(baseline): models of different confidence can be compared.

    Returns:
        (N,); positive: the order is right more often than not. Normalised: NaN where f(x) = f(baseline).

    Raises:
        InputError: the curves have other steps, or their ends, which normalise them, are not 0 and 1.

    >>> f = torch.tensor([0.0, 0.5, 1.0])
    >>> gap(Curve(f, torch.tensor([[4.0, 1.0, 0.0]])), Curve(f, torch.tensor([[4.0, 3.0, 0.0]])), normalised=True)
    tensor([0.2500])
    """
    same = most.values.shape == least.values.shape and most.keep == least.keep
    if not same or not torch.equal(most.fractions, least.fractions.to(most.fractions.device)):
        raise InputError("The two curves must be of the same images, the same fractions and the same keep=.")
    found = _area(least) - _area(most)
    found = -found if most.keep else found
    return (found / _span(most) if normalised else found).to(most.values.dtype)


def _area(curve: Curve) -> Tensor:
    if not isinstance(curve, Curve):
        raise ArgumentTypeError(f"Expected a Curve of removal_curve, not {type(curve).__name__}.")
    if curve.values.dim() != 2 or curve.fractions.shape != curve.values.shape[1:] or len(curve.fractions) < 2:
        raise InputError(
            f"A curve with an area has two points or more, fractions (F,) and values (N, F), "
            f"not {tuple(curve.fractions.shape)} and {tuple(curve.values.shape)}."
        )
    return torch.trapezoid(curve.values.double(), curve.fractions.double(), dim=1)


def _span(curve: Curve) -> Tensor:
    """f(x) - f(baseline); NaN where it is 0."""
    if float(curve.fractions[0]) != 0 or float(curve.fractions[-1]) != 1:
        raise InputError(
            f"Only a curve from 0 to 1 has f(x) and f(baseline) at its ends, and this one goes from "
            f"{float(curve.fractions[0]):g} to {float(curve.fractions[-1]):g}: divide its area yourself."
        )
    ends = curve.values.double()
    span = ends[:, -1] - ends[:, 0] if curve.keep else ends[:, 0] - ends[:, -1]
    return torch.where(span == 0, math.nan, span)


def _ranks(order: object, x: Tensor) -> Tensor:
    """(N, P) int32: when each pixel goes."""
    pixels = math.prod(x.shape[2:])
    if not isinstance(order, Tensor):
        raise ArgumentTypeError(f"order must be a tensor (N, H*W) of removal_order, not {type(order).__name__}.")
    if order.shape != (len(x), pixels) or order.is_floating_point() or order.dtype == torch.bool:
        raise InputError(
            f"order must be ({len(x)}, {pixels}) whole numbers, the pixels of each picture of {tuple(x.shape)}, "
            f"not {tuple(order.shape)} of {order.dtype}: removal_order(maps) gives it."
        )
    order = order.to(x.device, torch.int64)
    rank = torch.full(order.shape, -1, dtype=torch.int32, device=x.device)
    good = bool(((order >= 0) & (order < pixels)).all())
    if good:
        rank.scatter_(1, order, torch.arange(pixels, dtype=torch.int32, device=x.device).expand_as(rank))
    if not good or bool((rank < 0).any()):
        raise InputError(f"order is no permutation: each row must hold every pixel, 0 to {pixels - 1}, once.")
    return rank


def _counts(fractions: object, pixels: int) -> Tensor:
    """(F,) int64: pixels that are gone at each point."""
    if isinstance(fractions, Integral) and not isinstance(fractions, bool):
        steps = check_count(fractions, "fractions, a number of steps,")
        given = torch.arange(steps + 1, dtype=torch.float64) / steps
    elif isinstance(fractions, (Sequence, Tensor, np.ndarray)) and not isinstance(fractions, str):
        given = torch.as_tensor(fractions, dtype=torch.float64).cpu()
    else:
        raise ArgumentTypeError(
            f"fractions must be a number of steps or the fractions themselves, not {type(fractions).__name__}: 50, say."
        )
    if given.dim() != 1 or len(given) == 0 or not bool(((given >= 0) & (given <= 1)).all()):
        raise InputError("fractions must be numbers in [0, 1], (0, 0.5, 1) say, or one whole number of steps.")
    if not bool((given[1:] > given[:-1]).all()):
        raise InputError("fractions must increase: each larger than the one before.")
    return (given * pixels + 0.5).floor().long()


def _check_rest(replace: object, left: int) -> None:
    """Refused before the first pass, for the point with nothing left is the last of a curve."""
    if isinstance(replace, str) and replace == "linear" and left < 1:
        raise InputError(
            "Linear imputation needs a pixel that is left, and the fractions go to the end where none is: give others, "
            "torch.linspace(0, 0.99, 50) say (with keep=True from 0.01 to 1)."
        )


def _check_option(given: object, name: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, not {given!r}.")
