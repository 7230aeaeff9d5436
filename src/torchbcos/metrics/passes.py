"""Many forward passes of the same pictures, changed at every step: what all metrics that remove something share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics.checks import check_maps

__all__ = [
    "Predict", "Replace",
    "InOrder",
    "asked", "by_step", "check_count", "check_pictures", "check_targets", "fitted_maps", "outcomes", "own_generator",
]  # fmt: skip

Predict = Callable[[Tensor], Tensor]  # (b, C, *S) -> (b,); with targets: -> (b, K)
Replace = str | float | Tensor | Callable[[Tensor], Tensor]


def own_generator(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, or a fresh one with seed 0: the states of torch, NumPy and `random` are never moved."""
    if generator is None:
        return torch.Generator().manual_seed(0)
    if not isinstance(generator, torch.Generator):
        raise ArgumentTypeError(
            f"generator must be a torch.Generator or None, not {type(generator).__name__}: torch.Generator().manual_seed(0), say."
        )
    return generator


def check_count(number: object, name: str, least: int = 1) -> int:
    """A whole number, at least so large."""
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise ArgumentTypeError(f"{name} must be a whole number, not {type(number).__name__}.")
    number = int(number)
    if number < least:
        raise InputError(f"{name} must be {least} or more, not {number}.")
    return number


def check_pictures(x: object) -> Tensor:
    """Pictures (N, C, *S), floating point and finite, without their graph.

    Raises:
        ArgumentTypeError: they are no tensor.
        InputError: there are none, they have no channel or space axis, or a number in them is not finite.
    """
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"Pictures must be a tensor (N, C, H, W), not {type(x).__name__}.")
    if x.dim() < 3 or x.numel() == 0 or not x.is_floating_point():
        raise InputError(f"Pictures must be (N, C, H, W) of floating point, not {tuple(x.shape)} of {x.dtype}.")
    x = x.detach()
    if not bool(x.isfinite().all()):
        first = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"Picture {first} has numbers that are not finite (NaN or infinity).")
    return x


def fitted_maps(maps: object, x: Tensor) -> Tensor:
    """Checked maps (N, *S) of the pictures' size, on their device.

    Raises:
        ArgumentTypeError: they are no tensor.
        InputError: there are more or fewer than pictures, their size is another, or they are not finite.
    """
    checked = check_maps(maps, images=len(x))
    size = tuple(x.shape[2:])
    if checked.shape[1:] != size:
        raise InputError(
            f"Maps of size {tuple(checked.shape[1:])} do not fit pictures of size {size}: sum their channels, "
            "and resize them first (torch.nn.functional.interpolate)."
        )
    return checked.to(x.device)


def outcomes(
    predict: Predict,
    build: Callable[[Tensor, Tensor], Tensor],
    images: int,
    steps: int,
    *,
    batch_size: int,
    targets: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """What `predict` says of every picture at every step, in full batches over pictures and steps together.

    All pictures of one step come before those of the next. So a batch with as many pictures as there are has them in their
    order: a `predict` that holds one class a picture is either right or gets batches that do not fit its classes.

    Args:
        predict: see `asked`.
        build: (b,) numbers of pictures, (b,) numbers of steps -> (b, C, *S).
        images: N.
        steps: F.
        batch_size: pictures of one pass, at most.
        targets: (N,) classes, or None.
        device: of the numbers given to `build`.

    Returns:
        (N, F), float32 or float64.
    """
    check_count(batch_size, "batch_size")
    targets = check_targets(targets, images, device)
    found = []
    for part in torch.split(torch.arange(images * steps, device=device), batch_size):
        which = part % images
        found.append(asked(predict, build(which, part // images), None if targets is None else targets[which]))
    return torch.cat(found).view(steps, images).T.contiguous()


def asked(predict: Predict, batch: Tensor, targets: Tensor | None = None) -> Tensor:
    """One number a picture, float32 or float64, without a graph.

    Args:
        predict: (b, C, *S) -> (b,), or -> (b, K) where there are targets.
        batch: (b, C, *S).
        targets: (b,) int64, or None.

    Raises:
        ArgumentTypeError: `predict` is no function, or gives no tensor.
        InputError: what it gives has another shape, or a target is no class of it.
    """
    if not callable(predict):
        raise ArgumentTypeError(f"predict must be a function of pictures, not {type(predict).__name__}.")
    with torch.no_grad():
        found = predict(batch)
    if not isinstance(found, Tensor):
        raise ArgumentTypeError(f"predict gave a {type(found).__name__}, not a tensor of one number a picture.")
    if found.is_complex():
        raise InputError(f"predict gave {found.dtype}, and one real number a picture is expected: its abs() or real part, say.")
    found = found.detach()
    found = found if found.dtype in (torch.float32, torch.float64) else found.float()
    if targets is None:
        if found.shape != (len(batch),):
            raise InputError(
                f"predict gave {tuple(found.shape)} for {len(batch)} pictures, and one number each is expected, "
                f"({len(batch)},): choose the class, lambda x: model(x)[:, 0], or give classes as targets=."
            )
        return found
    if found.dim() != 2 or len(found) != len(batch):
        raise InputError(
            f"predict gave {tuple(found.shape)} for {len(batch)} pictures; with targets= it gives all classes, (N, K)."
        )
    if int(targets.max()) >= found.shape[1]:
        raise InputError(f"A target is {int(targets.max())}, and predict gives the classes 0 to {found.shape[1] - 1}.")
    return found.gather(1, targets[:, None].to(found.device)).squeeze(1)


def check_targets(targets: object, images: int, device: torch.device | None) -> Tensor | None:
    """(N,) int64 on the device, or None."""
    if targets is None:
        return None
    if not isinstance(targets, Tensor):
        raise ArgumentTypeError(f"targets must be a tensor (N,) of classes, not {type(targets).__name__}.")
    if targets.shape != (images,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise InputError(f"targets must be {images} whole numbers, one class a picture, not {tuple(targets.shape)}.")
    if int(targets.min()) < 0:
        raise InputError(f"A target is {int(targets.min())}: classes are counted from 0.")
    return targets.to(device, torch.int64)


def by_step(images: Tensor, steps: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The steps of a part of `outcomes`, each with its pictures."""
    for step in range(int(steps[0]), int(steps[-1]) + 1):
        yield step, images[steps == step]


class InOrder:
    """What is drawn once a step, at the moment it is needed, and forgotten when later steps are asked for.

    >>> numbers = iter(range(9))
    >>> drawn = InOrder(lambda: torch.tensor(next(numbers)))
    >>> int(drawn.at(0)), int(drawn.at(2)), int(drawn.at(2))
    (0, 2, 2)
    """

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        self._draw = draw
        self._step = -1
        self._found: Tensor | None = None

    def at(self, step: int) -> Tensor:
        """What was drawn for a step; steps are asked for in order."""
        while self._found is None or self._step < step:
            self._found = self._draw()
            self._step += 1
        return self._found
