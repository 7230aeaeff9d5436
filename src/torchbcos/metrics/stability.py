"""Max-sensitivity: how far an explanation moves when the picture hardly does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.functional.replace import noisy
from torchbcos.metrics.about import Metric
from torchbcos.metrics.passes import InOrder, by_step, check_count, check_pictures, check_targets, own_generator

__all__ = ["METRICS", "max_sensitivity"]


def max_sensitivity(
    explain: Callable[..., Tensor],
    x: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    generator: torch.Generator | None = None,
    batch_size: int = 16,
    targets: Tensor | None = None,
) -> Tensor:
    """The largest relative change of the explanation: max over noise δ of ‖Φ(x + δ) - Φ(x)‖/‖Φ(x)‖.

    Yeh et al. 2019, arXiv 1901.09392, definition 3.1; with Captum's radius, samples and Frobenius norm. Noise is uniform in
    [-radius, radius] on the colours, the same for all images; encoded pictures stay encoded, and pictures in [0, 1] stay there.

    Args:
        explain: (b, C, H, W) -> (b, ...): maps, or whatever is to be stable; with `targets`, explain(pictures, their targets).
        x: (N, C, H, W) as the network takes it, or any number of space axes.
        radius: of the noise, in units of x.
        samples: how many noisy pictures.
        generator: of the noise; None: a fresh one, seed 0.
        batch_size: pictures that are explained together, at most.
        targets: (N,) classes, or None.

    Returns:
        (N,), 0 is most stable; NaN where the explanation of the picture itself is 0 everywhere. An explanation that ignores the
        picture, or the class, is perfectly stable: never read this number without `label_sensitivity` beside it.

    Raises:
        InputError: the explanation is not finite, or has another shape than one an image.

    >>> x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> max_sensitivity(lambda x: x.sum(1), x, radius=0.0)
    tensor([0., 0.])
    """
    x = check_pictures(x)
    generator = own_generator(generator)
    _check_radius(radius)
    check_count(samples, "samples")
    check_count(batch_size, "batch_size")
    targets = check_targets(targets, len(x), x.device)

    def draw() -> Tensor:
        shape = (1, *x.shape[1:])
        return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1) * radius

    def told(which: Tensor, pictures: Tensor) -> Tensor:
        found = explain(pictures) if targets is None else explain(pictures, targets[which])
        return _checked(found, len(pictures))

    every = torch.arange(len(x) * samples, device=x.device)
    before = torch.cat([told(which, x[which]) for which in torch.split(every[: len(x)], batch_size)])
    size = before.double().flatten(1).norm(dim=1)
    moves, most = InOrder(draw), torch.zeros_like(size)
    for part in torch.split(every, batch_size):
        # all pictures of one draw before those of the next: see `outcomes`
        which, steps = part % len(x), part // len(x)
        moved = torch.cat([noisy(x[some], moves.at(step), clamp=True) for step, some in by_step(which, steps)])
        after, which = told(which, moved), which.to(size.device)
        if after.shape[1:] != before.shape[1:]:
            raise InputError(f"explain gave {tuple(before.shape[1:])} for pictures, and {tuple(after.shape[1:])} for noisy ones.")
        far = (after.double() - before[which].double()).flatten(1).norm(dim=1) / size[which]
        most = most.scatter_reduce(0, which, far, "amax")
    return torch.where(size == 0, math.nan, most).to(before.dtype)


def _check_radius(radius: object) -> None:
    if isinstance(radius, bool) or not isinstance(radius, (int, float)):
        raise ArgumentTypeError(f"radius must be a number, in units of x, not {type(radius).__name__}.")
    if not 0 <= radius < math.inf:
        raise InputError(f"radius must be 0 or more, not {radius}.")


def _checked(found: object, images: int) -> Tensor:
    """What `explain` gave: one explanation an image, finite, float32 or float64, without its graph."""
    if not isinstance(found, Tensor):
        raise ArgumentTypeError(f"explain gave a {type(found).__name__}, not a tensor of maps, (N, H, W).")
    if found.dim() < 2 or len(found) != images:
        raise InputError(f"explain gave {tuple(found.shape)} for {images} pictures: one map each is expected, ({images}, H, W).")
    found = found.detach()
    found = found if found.dtype in (torch.float32, torch.float64) else found.float()
    if not bool(found.isfinite().all()):
        raise InputError("explain gave numbers that are not finite (NaN or infinity).")
    return found


METRICS = (
    Metric(
        name="max-sensitivity",
        function=max_sensitivity,
        summary="The largest relative change of the map under noise that nobody sees.",
        best="low",
        range="[0, ∞); a map that ignores the picture 0",
        needs="explain",
        cost="10 + 1 maps",
        source="Yeh et al. 2019, arXiv 1901.09392, definition 3.1",
        verified="twin, closed form, Captum 0.9 sensitivity_max",
        blind="Constant maps, and fixed random ones, are perfectly stable: read it beside label-sensitivity only.",
    ),
)
