"""Do the numbers of a map predict what the network does? Sensitivity-n for contributions, infidelity for weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.functional.replace import noisy
from torchbcos.metrics.about import Metric
from torchbcos.metrics.imputing import check_noise, remover
from torchbcos.metrics.passes import (
    InOrder,
    Predict,
    Replace,
    by_step,
    check_count,
    check_pictures,
    fitted_maps,
    outcomes,
    own_generator,
)  # fmt: skip
from torchbcos.metrics.ranks import pearson
from torchbcos.metrics.wide import scaled

__all__ = ["METRICS", "infidelity", "sensitivity_n"]

_TOGETHER = 1 << 24  # numbers of masks multiplied at once


def sensitivity_n(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    n: int | Sequence[int] | Tensor,
    subsets: int = 100,
    replace: Replace = "grey",
    generator: torch.Generator | None = None,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """Pearson's correlation, over random subsets of n pixels, of their contributions' sum and of the drop without them.

    corr(Σ_S A, f(x) - f(x without S)), |S| = n, within each image (Ancona et al. 2018, arXiv 1711.06104, section 4). The paper
    takes n from 1 to 80 % of the pixels, evenly in their logarithm.

    Args:
        predict: (b, C, H, W) -> (b,): the score.
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        maps: (N, H, W), signed contributions: a pixel is removed in all its channels.
        n: pixels of a subset; or several such numbers, for which the same drawn orders of pixels are cut at n.
        subsets: how many are drawn, the same for all images.
        replace: as in `removal_curve`.
        generator: of the subsets; None: a fresh one, seed 0.
        batch_size: pictures of one pass, at most.
        targets: as in `removal_curve`.

    Returns:
        (N,) in [-1, 1] of one n, (N, len(n)) of several: their mean is left to you. NaN where it is undefined: the map is
        constant, no subset changes the score, or n is all pixels.

    Raises:
        InputError: shapes do not fit, or n is not a number of pixels.

    >>> x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> bool(sensitivity_n(lambda x: x.sum((1, 2, 3)), x, x[:, 0], n=3, replace=0.0) > 0.9999)
    True
    """
    x = check_pictures(x)
    maps = fitted_maps(maps, x)
    pixels = maps[0].numel()
    sizes = _sizes(n, pixels)
    check_count(subsets, "subsets", 2)
    rank = _drawn_ranks(subsets, pixels, own_generator(generator)).to(x.device)
    removed = remover(x, replace)
    # step 0 removes nothing; then all subsets of the first n, of the second ...
    count = torch.tensor([0] + [size for size in sizes for _ in range(subsets)], device=x.device)

    def build(images: Tensor, steps: Tensor) -> Tensor:
        gone = rank[(steps - 1) % subsets] < count[steps].unsqueeze(1)
        return removed(images, gone.view(-1, *x.shape[2:]))

    found = outcomes(predict, build, len(x), len(count), batch_size=batch_size, targets=targets, device=x.device)
    drops = (found[:, :1].double() - found[:, 1:].double()).view(len(x), len(sizes), subsets)
    shares = scaled(maps).flatten(1).double()  # a correlation asks for no scale
    sums = torch.stack([_subset_sums(shares, rank, size) for size in sizes], 1).to(found.device)
    undefined = _unmoved(drops, 8 * torch.finfo(found.dtype).eps * found.double().abs().amax(1))
    undefined |= _unmoved(sums, 1e-12 * shares.abs().sum(1).to(found.device))
    undefined |= torch.tensor([size == pixels for size in sizes], device=found.device)
    r = torch.where(undefined, math.nan, pearson(sums, drops)).to(torch.promote_types(found.dtype, maps.dtype))
    return r[:, 0] if isinstance(n, Integral) else r


def infidelity(
    predict: Predict,
    x: Tensor,
    weights: Tensor,
    *,
    perturb: float | Callable[..., Tensor | tuple[Tensor, Tensor]] = 0.1,
    samples: int = 10,
    generator: torch.Generator | None = None,
    scaled: bool = False,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """How badly weights predict what a perturbation does: the mean of (I·Φ - (f(x) - f(x - I)))² over perturbations I.

    Yeh et al. 2019, arXiv 1901.09392, definition 2.1. Φ are weights, as gradients and W(x) are, not contributions.

    Args:
        predict: (b, C, H, W) -> (b,): the score.
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        weights: (N, C, H, W), one for every number of x.
        perturb: standard deviation of Gaussian noise on the colours (encoded pictures stay encoded), the same noise for all
            images; or a function of (x, generator), or of x alone, that gives I, which broadcasts to the shape of x (draw it
            of shape (1, C, H, W), and no image depends on its batch), or I and the perturbed pictures, as Captum's do.
        samples: how many perturbations.
        generator: of the noise; None: a fresh one, seed 0.
        scaled: Φ times the factor that fits best, E[I·Φ Δf]/E[(I·Φ)²]: for weights whose scale means nothing.
        batch_size: pictures of one pass, at most.
        targets: as in `removal_curve`.

    Returns:
        (N,): 0 is best, in squared units of the score.

    Raises:
        InputError: shapes do not fit, or a perturbation is not finite.

    >>> x, w = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.rand(1, 4, 4, dtype=torch.float64)
    >>> bool((infidelity(lambda x: (w * x).sum((1, 2, 3)), x, w.expand_as(x)) < 1e-12).all())
    True
    """
    x = check_pictures(x)
    weights = _fitted_weights(weights, x)
    check_count(samples, "samples")
    drawn = _perturbations(x, perturb, own_generator(generator))
    said: list[Tensor] = []

    def draw() -> Tensor:
        change, moved = drawn()
        said.append((change.double() * weights).flatten(1).sum(1))
        return moved

    moves = InOrder(draw)

    def build(images: Tensor, steps: Tensor) -> Tensor:
        return torch.cat([moves.at(step)[which] for step, which in by_step(images, steps)])

    before = outcomes(predict, lambda images, _: x[images], len(x), 1, batch_size=batch_size, targets=targets, device=x.device)
    after = outcomes(predict, build, len(x), samples, batch_size=batch_size, targets=targets, device=x.device)
    came = before.double() - after.double()
    told = torch.stack(said, 1).to(came.device)
    if scaled:
        power = told.square().sum(1, keepdim=True)
        told = torch.where(power > 0, (told * came).sum(1, keepdim=True) / power, 0) * told
    return (told - came).square().mean(1).to(before.dtype)


def _sizes(n: object, pixels: int) -> list[int]:
    given = n.tolist() if isinstance(n, (Tensor, np.ndarray)) else n
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    sizes = [check_count(size, "n, the pixels of a subset,") for size in several]
    if not sizes or max(sizes) > pixels:
        raise InputError(f"n must be from 1 to {pixels}, the pixels of a picture, not {max(sizes, default=0)}.")
    return sizes


def _drawn_ranks(subsets: int, pixels: int, generator: torch.Generator) -> Tensor:
    """(subsets, pixels) int32: the place of each pixel in a drawn order; the first n are a random subset of n."""
    orders = (torch.randperm(pixels, generator=generator, device=generator.device) for _ in range(subsets))
    return torch.stack([order.to(torch.int32) for order in orders])


def _subset_sums(flat: Tensor, rank: Tensor, size: int) -> Tensor:
    """(N, subsets) float64."""
    part = max(1, _TOGETHER // flat.shape[1])
    return torch.cat([flat @ (some < size).double().T for some in torch.split(rank, part)], 1)


def _unmoved(values: Tensor, noise: Tensor) -> Tensor:
    """(N, F): rows of (N, F, S) that differ by less than rounding does."""
    return values.amax(-1) - values.amin(-1) <= noise.unsqueeze(1)


def _fitted_weights(weights: object, x: Tensor) -> Tensor:
    if not isinstance(weights, Tensor):
        raise ArgumentTypeError(f"weights must be a tensor (N, C, H, W), not {type(weights).__name__}.")
    if weights.shape != x.shape:
        raise InputError(
            f"weights of shape {tuple(weights.shape)} do not fit pictures of shape {tuple(x.shape)}: infidelity takes one weight "
            "for every number of x (a gradient, or W(x)), not a map of contributions."
        )
    if not bool(weights.isfinite().all()):
        raise InputError("weights have numbers that are not finite (NaN or infinity).")
    return weights.detach().to(x.device).double()


def _perturbations(x: Tensor, perturb: object, generator: torch.Generator) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that draws the next I and the perturbed pictures."""
    if isinstance(perturb, (int, float)) and not isinstance(perturb, bool):
        check_noise(perturb)
        size = float(perturb)

        def noise() -> tuple[Tensor, Tensor]:
            field = size * torch.randn(1, *x.shape[1:], generator=generator, device=generator.device)
            moved = noisy(x, field)
            return x - moved, moved

        return noise
    if not callable(perturb):
        raise ArgumentTypeError(f"perturb must be a standard deviation or a function, not {type(perturb).__name__}.")
    given = perturb
    takes = _takes(given)

    def own() -> tuple[Tensor, Tensor]:
        own_x = x.clone()  # a function that works in place would change the caller's pictures
        found = given(own_x, generator=generator) if takes == "name" else given(own_x, generator) if takes else given(own_x)
        change, moved = found if isinstance(found, tuple) else (found, None)
        change = _as_pictures(change, x)
        return change, x - change if moved is None else _as_pictures(moved, x)

    return own


def _takes(function: Callable[..., object]) -> str:
    """How a function takes the generator: by its "name", as the "second" argument that it needs, or not at all."""
    try:
        known = inspect.signature(function).parameters
    except ValueError:  # written in C
        return ""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in known.values() if p.kind in kinds and p.default is p.empty]
    return "second" if len(needed) > 1 else "name" if "generator" in known else ""


def _as_pictures(found: object, x: Tensor) -> Tensor:
    if not isinstance(found, Tensor):
        raise ArgumentTypeError(f"perturb gave a {type(found).__name__}, not a tensor I of the shape of x.")
    try:
        found = found.detach().to(x).expand_as(x)
    except RuntimeError as error:
        raise InputError(f"perturb gave {tuple(found.shape)}, which does not fit pictures of {tuple(x.shape)}.") from error
    if not bool(found.isfinite().all()):
        raise InputError("perturb gave numbers that are not finite (NaN or infinity).")
    return found


METRICS = (
    Metric(
        name="sensitivity-n",
        function=sensitivity_n,
        summary="Pearson's correlation, over random subsets of n pixels, of their contributions' sum and of the drop.",
        best="high",
        range="[-1, 1]; constant map undefined, random map 0",
        needs="predict",
        cost="100 for each n, + 1",
        source="Ancona et al. 2018, arXiv 1711.06104, section 4",
        verified="twin, closed form",
        blind="Scattered pixels: large objects lose little by them; it asks for contributions, and fails maps on another scale.",
    ),
    Metric(
        name="infidelity",
        function=infidelity,
        summary="Mean squared error of what weights say of a perturbation, I·Φ, against what it does.",
        best="low",
        range="[0, ∞) in squared units of the score; exact weights of a linear network 0",
        needs="predict, weights",
        cost="10 + 1",
        source="Yeh et al. 2019, arXiv 1901.09392, definition 2.1",
        verified="twin, closed form, Captum 0.9 infidelity, Quantus 0.6 Infidelity",
        blind="For small noise the gradient wins by construction; networks with larger scores have larger errors.",
    ),
)
