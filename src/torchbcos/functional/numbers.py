"""Numbers that a user sets and that have a range; each is asked where it is used, for it may be set at any time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.frozen import current
from torchbcos._core.numbers import integer
from torchbcos._core.torch_private import dispatch_mode, transformed

__all__ = ["at_least_one", "check_epsilon", "check_exponent", "check_finite", "check_positive", "check_rate", "check_whole"]


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_exponent(b: float) -> None:
    """Raise InputError unless `b` is a finite number ≥ 1."""
    if not _real(b) or not 1 <= b < math.inf:
        raise InputError(f"b must be a real number of at least 1, not {b!r}: B-cos layers multiply by |cos|^(b-1).")


def check_epsilon(eps: float, name: str = "eps") -> None:
    """Raise InputError unless `eps` is a finite number ≥ 0."""
    if not _real(eps) or not 0 <= eps < math.inf:
        raise InputError(f"{name} must be a finite number of at least 0, not {eps!r}: it is added to a length.")


def check_positive(value: float | None, name: str) -> None:
    """Raise InputError unless `value` is None or a positive, finite number."""
    if value is not None and (not _real(value) or not 0 < value < math.inf):
        raise InputError(f"{name} must be positive and finite, not {value!r}.")


def check_finite(value: float | None, name: str) -> None:
    """Raise InputError unless `value` is None or a finite number."""
    if value is not None and (not _real(value) or not -math.inf < value < math.inf):
        raise InputError(f"{name} must be a finite number, not {value!r}.")


def check_whole(value: object, name: str, *, least: int = 1) -> int:
    """`value` as a whole number of at least `least`.

    Raises:
        InputError: it is none.

    >>> check_whole(0, "depth")
    Traceback (most recent call last):
    ...
    torchbcos._core.errors.InputError: depth must be a whole number from 1, not 0.
    """
    count = integer(value)
    if count is None or count < least:
        raise InputError(f"{name} must be a whole number from {least}, not {shorten(repr(value), 80)}.")
    return count


def check_rate(value: float | None, name: str) -> None:
    """Raise InputError unless `value` is None or a number from 0 to 1."""
    if value is not None and (not _real(value) or not 0 <= value <= 1):
        raise InputError(f"{name} must be a number from 0 to 1, not {value!r}.")


def at_least_one(b: Tensor) -> Tensor:
    """A learnable B as layers use it: `max(b, 1)`.

    Below 1 a gradient that would lower it further is dropped, and one that raises it is not: an optimiser that has gone too
    far comes back. (`clamp` alone would drop both, and B would stay there for good.)

    Raises:
        InputError: B is not a finite number. On an accelerator only explanations ask, for each question waits for it.

    >>> b = torch.tensor(0.5, requires_grad=True)
    >>> at_least_one(b)
    tensor(1., grad_fn=<_AtLeastOneBackward>)
    """
    asks = b.device.type == "cpu" or current() is not None
    if asks and not torch.compiler.is_compiling() and not transformed() and not dispatch_mode() and not bool(b.isfinite().all()):
        raise InputError(
            f"A learnable b is {b.detach().flatten()[:3].tolist()}, and must be finite: the training that made it went astray. "
            "Train again with a lower learning rate for b, or load an earlier checkpoint."
        )
    used: Tensor = _AtLeastOne.apply(b)
    return used


class _AtLeastOne(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(b: Tensor) -> Tensor:
        return b.clamp_min(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (b,) = ctx.saved_tensors
        return torch.where((b < 1) & (g > 0), torch.zeros_like(g), g)
