"""What a network of one's own gave for one made-up input when it was saved: code that was changed since is found by it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.torch_private import eager
from torchbcos.zoo.probe import evaluating, moved

__all__ = ["MOST_LOGITS", "MOST_NUMBERS", "deviation", "remember_outputs"]

MOST_LOGITS = 16
MOST_NUMBERS = 2**26  # of an input: a volume of 256 x 256 x 256 in four channels
# of the largest logit: other machines and releases of torch add in another order, in half precision with fewer digits
_TOLERANCE, _HALF = 1e-3, 3e-2
_NUDGE = 1e-6  # a network that this much of its input changes visibly differs from machine to machine as well
_STEP = (math.sqrt(5) - 1) / 2


def remember_outputs(network: nn.Module, channels: int, size: Sequence[int]) -> dict[str, Any] | None:
    """The field `probe` of a card: the sides of an input, and the first logits that a network gives for it.

    None where they would not be found again: of a network that draws random numbers in eval mode, say.

    Args:
        network: as `load` builds it.
        channels: that it takes.
        size: (*S), sides of an input that it takes.
    """
    if channels * math.prod(size) > MOST_NUMBERS:
        return None
    found = [_first_logits(network, channels, size, seed=seed) for seed in range(2)]
    values = [value for value, _ in found]
    if values[0] is None or values[1] is None or not all(map(math.isfinite, values[0])):
        return None
    return None if _apart(values[0], values[1], found[0][1] / 10) else {"size": list(size), "logits": values[0]}


def deviation(network: nn.Module, channels: int, probe: Mapping[str, Any]) -> str | None:
    """In what a network differs from the one that was saved, in a few words; None where it does not.

    Args:
        network: with its weights.
        channels: that it takes.
        probe: the field of its card.
    """
    wanted = list(probe["logits"])
    values, tolerance = _first_logits(network, channels, probe["size"])
    if values is None:
        return "it does not take the input of then any more"
    if len(values) != len(wanted):
        return f"{len(values)} logits, and it was {len(wanted)}"
    k = _apart(values, wanted, tolerance)
    return None if k is None else f"logit {k} of a made-up input is {values[k]:.4g}, and was {wanted[k]:.4g}"


def _apart(values: Sequence[float], wanted: Sequence[float], tolerance: float) -> int | None:
    """The place where two rows of logits differ most, if that is more than the tolerance; None otherwise."""
    bound = tolerance * max(map(abs, wanted))
    far = [math.inf if math.isnan(value) else abs(value - right) for value, right in zip(values, wanted, strict=True)]
    return far.index(max(far)) if max(far) > bound else None


def _first_logits(
    network: nn.Module, channels: int, size: Sequence[int], seed: int = 0
) -> tuple[list[float] | None, float]:  # fmt: skip
    """The first logits for the made-up input, with the tolerance of their dtype; None where the network gives none."""
    with evaluating(network), _full_precision():
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed accelerators as well
        x = moved(_made_up(channels, size) * (1 - seed * _NUDGE), network)
        try:
            outputs = eager(network)(x)
        except Exception:  # of somebody's own forward: of any class
            return None, _TOLERANCE
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != 1 or outputs.is_complex():
        return None, _TOLERANCE
    tolerance = _TOLERANCE if {x.dtype, outputs.dtype} <= {torch.float32, torch.float64} else _HALF
    return outputs[0, :MOST_LOGITS].double().tolist() or None, tolerance


def _made_up(channels: int, size: Sequence[int]) -> Tensor:
    """An input (1, C, *S) of numbers in [0, 1) without a pattern: the same in every release, as no generator draws them."""
    places = torch.arange(channels * math.prod(size), dtype=torch.float64)
    return (places * places * _STEP % 1).to(torch.float32).reshape(1, channels, *size)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32, whatever a program allows for its training."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
