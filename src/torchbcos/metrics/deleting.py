"""Deletion and insertion: one number of a removal curve (RISE, arXiv 1806.07421)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.metrics.about import Metric
from torchbcos.metrics.passes import Predict, Replace, check_count, check_pictures, fitted_maps
from torchbcos.metrics.removal import area, removal_curve, removal_order

__all__ = ["METRICS", "deletion", "insertion", "pixel_steps", "rise_blur"]

_TAPS, _SIGMA = 11, 5.0  # RISE's


def deletion(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    replace: Replace = "grey",
    fractions: int | Sequence[float] | Tensor = 50,
    sign: str = "signed",
    ties: str = "random",
    generator: torch.Generator | None = None,
    normalised: bool = False,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """The area under the score while the most important pixels go (arXiv 1806.07421, section 3.3).

    RISE's own settings: `predict` gives softmax probabilities of the class that the network chose, `replace` is the mean colour
    ("grey" of a normalised picture), `fractions=pixel_steps(H * W)`, `ties="reversed"`.

    Args:
        predict: (b, C, H, W) -> (b,): the score.
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        maps: (N, H, W).
        replace: as in `removal_curve`, and so are the others.
        fractions: number of even steps, or the fractions removed.
        sign: as in `removal_order`, and so are `ties` and `generator`.
        ties: which of equal pixels goes first.
        generator: of the ties.
        normalised: as in `area`.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.

    Returns:
        (N,): low is good, and of a network that is sure, lower.

    Raises:
        InputError: shapes do not fit, or an option is unknown.

    >>> x = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
    >>> deletion(lambda x: x.sum((1, 2, 3)), x, x[:, 0], replace=0.0, fractions=4)
    tensor([3.7500])
    """
    x = check_pictures(x)
    order = removal_order(fitted_maps(maps, x), ties=ties, generator=generator, sign=sign)
    curve = removal_curve(predict, x, order, replace=replace, fractions=fractions, batch_size=batch_size, targets=targets)
    return area(curve, normalised=normalised)


def insertion(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    replace: Replace = "blur",
    fractions: int | Sequence[float] | Tensor = 50,
    sign: str = "signed",
    ties: str = "random",
    generator: torch.Generator | None = None,
    normalised: bool = False,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """The area under the score while the most important pixels come (arXiv 1806.07421, section 3.3), from the blurred picture.

    With the replacement of `deletion` it is the curve of the least important pixels first, read backwards. RISE's own settings:
    `replace=rise_blur`, and the others as in `deletion`.

    Args:
        predict: as in `deletion`, and so are the others.
        x: (N, C, H, W).
        maps: (N, H, W).
        replace: what the picture is before pixels come.
        fractions: number of even steps, or the fractions kept.
        sign: as in `removal_order`.
        ties: which of equal pixels comes first.
        generator: of the ties.
        normalised: as in `area`.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.

    Returns:
        (N,): high is good, and of a network that is sure, higher.

    Raises:
        InputError: shapes do not fit, or an option is unknown.

    >>> x = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
    >>> insertion(lambda x: x.sum((1, 2, 3)), x, x[:, 0], replace=0.0, fractions=4)
    tensor([6.2500])
    """
    x = check_pictures(x)
    order = removal_order(fitted_maps(maps, x), ties=ties, generator=generator, sign=sign)
    curve = removal_curve(
        predict, x, order, replace=replace, fractions=fractions, keep=True, batch_size=batch_size, targets=targets
    )
    return area(curve, normalised=normalised)


def pixel_steps(pixels: int, step: int = 224) -> Tensor:
    """The fractions of a curve that moves so many pixels at each step; the last step may be shorter.

    Args:
        pixels: of one picture, H·W.
        step: pixels a step: 224 in RISE, one row of its pictures.

    Returns:
        (F,) float64, from 0 to 1.

    Raises:
        InputError: there is no pixel, or no step.

    >>> pixel_steps(10, 4)
    tensor([0.0000, 0.4000, 0.8000, 1.0000], dtype=torch.float64)
    """
    check_count(pixels, "pixels")
    check_count(step, "step")
    return torch.tensor([*range(0, pixels, step), pixels], dtype=torch.float64) / pixels


def rise_blur(x: Tensor) -> Tensor:
    """The picture from which RISE's insertion starts: a Gaussian of 11 pixels, σ = 5, its tails folded back into the 11.

    Ours reflects at the border, where RISE's pads with zeros: zeros are the mean colour of normalised pictures, and no colour
    of encoded ones.

    Args:
        x: (N, C, H, W), or any number of space axes, of 6 pixels or more each.

    Returns:
        Of the shape of x: `replace=rise_blur`.

    Raises:
        InputError: an axis is too short to be reflected.

    >>> rise_blur(torch.full((1, 3, 8, 8), 0.25)).unique()
    tensor([0.2500])
    """
    x = check_pictures(x)
    if min(x.shape[2:]) <= _TAPS // 2:
        raise InputError(f"RISE's blur needs {_TAPS // 2 + 1} pixels along each axis, not {tuple(x.shape[2:])}.")
    kernel = _folded(_TAPS, _SIGMA)
    y = x.double()
    for axis in range(2, x.dim()):
        line = y.movedim(axis, -1)
        flat = F.pad(line.reshape(-1, 1, line.shape[-1]), (_TAPS // 2, _TAPS // 2), mode="reflect")
        y = F.conv1d(flat, kernel.to(x.device).view(1, 1, -1)).reshape(line.shape).movedim(-1, axis)
    return y.to(x.dtype)


def _folded(taps: int, sigma: float) -> Tensor:
    """A Gaussian of ± 4σ, of which what lies beyond the taps is mirrored at their edges (as SciPy blurs one bright pixel)."""
    reach = int(4 * sigma + 0.5)
    at = torch.arange(-reach, reach + 1)
    place = (at + taps // 2) % (2 * taps)
    place = torch.minimum(place, 2 * taps - 1 - place)
    bell = torch.exp(-(at.double() ** 2) / (2 * sigma**2))
    kernel = torch.zeros(taps, dtype=torch.float64).index_add_(0, place, bell)
    return kernel / kernel.sum()


METRICS = (
    Metric(
        name="deletion",
        function=deletion,
        summary="Area under the score while the most important pixels go.",
        best="low",
        range="scores of the network; random order halfway between f(x) and f(baseline)",
        needs="predict",
        cost="steps + 1",
        source="Petsiuk et al. 2018, arXiv 1806.07421, section 3.3",
        verified="twin, closed form",
        blind="It sees the order alone, and pictures that the network was never trained on; its size depends on the replacement.",
    ),
    Metric(
        name="insertion",
        function=insertion,
        summary="Area under the score while the most important pixels come, on the blurred picture.",
        best="high",
        range="scores of the network; random order halfway between f(baseline) and f(x)",
        needs="predict",
        cost="steps + 1",
        source="Petsiuk et al. 2018, arXiv 1806.07421, section 3.3",
        verified="twin, closed form",
        blind="With the same replacement it is deletion of the least important first, read backwards: no second opinion.",
    ),
)
