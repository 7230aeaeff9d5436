"""ROAD: removal without the outline of what was removed (arXiv 2202.00449)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.metrics.about import Metric
from torchbcos.metrics.imputing import check_noise, colour_noise
from torchbcos.metrics.passes import Predict, check_pictures, fitted_maps, own_generator
from torchbcos.metrics.removal import Curve, removal_curve, removal_order

__all__ = ["METRICS", "road", "road_curves"]

_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def road_curves(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    measure: str = "score",
    fractions: Sequence[float] | Tensor = _TENTHS,
    noise: float = 0.01,
    sign: str = "signed",
    ties: str = "random",
    generator: torch.Generator | None = None,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> tuple[Curve, Curve]:
    """The score, or whether the class is right, while pixels are imputed from their neighbours: most and least important first.

    Args:
        predict: (b, C, H, W) -> (b,), or -> (b, K) with `targets`.
        x: (N, C, H, W) as the network takes it.
        maps: (N, H, W).
        measure: "score", or "accuracy": 1 where the target is the highest class, else 0 (needs `targets`); its mean over
            images is the accuracy of the paper.
        fractions: of pixels that are removed; below 1, for then nothing is left to impute from.
        noise: standard deviation on removed pixels, in units of x; one draw for all pictures and steps.
        sign: as in `removal_order`, and so is `ties`.
        ties: which of equal pixels goes first.
        generator: of ties and noise; None: a fresh one, seed 0.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.

    Returns:
        Two curves, of the most important pixels removed first (low is good) and of the least important (high is good).

    Raises:
        InputError: shapes do not fit, an option is unknown, or a fraction removes every pixel.

    >>> x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    >>> most, least = road_curves(lambda x: x.amax((1, 2, 3)), x, x[:, 0], fractions=[0.25, 0.5], noise=0.0)
    >>> most.values < least.values
    tensor([[True, True]])
    """
    x = check_pictures(x)
    maps = fitted_maps(maps, x)
    check_noise(noise)
    if measure not in ("score", "accuracy"):
        raise InputError(f"measure must be 'score' or 'accuracy', not {measure!r}.")
    if measure == "accuracy":
        if targets is None:
            raise InputError("Accuracy needs targets=(N,), and a predict that gives all classes, (b, K).")
        predict = _hits(predict)
    generator = own_generator(generator)
    again = torch.Generator(generator.device)  # both orders break ties alike: a constant map has the same curve twice
    again.set_state(generator.get_state())
    most_first = removal_order(maps, first="most", ties=ties, generator=generator, sign=sign)
    orders = (most_first, removal_order(maps, first="least", ties=ties, generator=again, sign=sign))
    field = colour_noise(x, noise, generator)
    most, least = (
        removal_curve(
            predict, x, order, replace="linear", fractions=fractions, batch_size=batch_size, targets=targets, noise=field
        )
        for order in orders
    )
    return most, least


def road(
    predict: Predict,
    x: Tensor,
    maps: Tensor,
    *,
    measure: str = "score",
    fractions: Sequence[float] | Tensor = _TENTHS,
    noise: float = 0.01,
    sign: str = "signed",
    ties: str = "random",
    generator: torch.Generator | None = None,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """Half the mean distance of ROAD's two curves: mean over fractions of (least first - most first)/2.

    Args:
        predict: as in `road_curves`, and so are the others.
        x: (N, C, H, W).
        maps: (N, H, W).
        measure: "score" or "accuracy".
        fractions: of pixels that are removed.
        noise: standard deviation on removed pixels.
        sign: as in `removal_order`.
        ties: which of equal pixels goes first.
        generator: of ties and noise.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.

    Returns:
        (N,): high is good; a random map has 0 on average.

    Raises:
        InputError: as `road_curves`.

    >>> x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    >>> bool(road(lambda x: x.amax((1, 2, 3)), x, x[:, 0], noise=0.0) > 0)
    True
    """
    most, least = road_curves(
        predict, x, maps, measure=measure, fractions=fractions, noise=noise, sign=sign, ties=ties, generator=generator,
        batch_size=batch_size, targets=targets,
    )  # fmt: skip
    return ((least.values.double() - most.values.double()).mean(1) / 2).to(most.values.dtype)


def _hits(predict: Predict) -> Predict:
    """1 at the highest class of each picture, 0 at the others; NaN where a class is NaN, for then none is the highest."""

    def hits(batch: Tensor) -> Tensor:
        classes = predict(batch)
        if not isinstance(classes, Tensor) or classes.dim() != 2:
            return classes  # refused by its shape
        found = torch.zeros(classes.shape, dtype=torch.float32, device=classes.device)
        found.scatter_(1, classes.argmax(1, keepdim=True), 1.0)
        return torch.where(classes.isnan().any(1, keepdim=True), math.nan, found)

    return hits


METRICS = (
    Metric(
        name="road",
        function=road,
        summary="Half the mean distance of two scores: the least, and the most important pixels imputed (10 to 90 %).",
        best="high",
        range="differences of scores; random map 0",
        needs="predict",
        cost="18",
        source="Rong et al. 2022, arXiv 2202.00449",
        verified="twin, closed form",
        blind="It sees the order alone; smooth maps remove smooth regions, whose outline the imputed picture still tells.",
    ),
)
