"""Whether a weight is still the one that something was made of.

A weight that has been brought into another order (`kernels/onednn.py`) must not outlive the weight. torch counts changes in
place, but not all of them: fused optimisers, and whoever writes through `.data`, a numpy or DLPack alias or the storage, move
no counter. Reading the whole weight would be exact and costs 7 % of a prediction for one picture (docs/decisions/021). So a seal
keeps what torch says, which storage the numbers lie in, and a sample of the numbers, which holds at least one of every filter
and, in channels_last, one of every input channel.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.torch_private import version

__all__ = ["Seal", "sealable"]

_SAMPLE = 512  # numbers at least: 30 µs a layer, for each lies in a page of its own; 1 % of a prediction for one picture


def sealable(weight: Tensor) -> bool:
    """True for (O, ...) in one piece of memory, changes of which torch counts."""
    dense = weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
    return dense and weight.numel() > 0 and version(weight) is not None


class Seal:
    """What tells a weight from every other, and from itself after a change.

    It keeps neither the tensor nor its memory alive, and blocks nothing that torch does with either.

    Args:
        weight: `sealable`.

    >>> weight = torch.randn(8, 4)
    >>> seal = Seal(weight)
    >>> seal.holds(weight), seal.holds(weight.clone()), seal.holds(weight.mul_(2))
    (True, False, False)
    """

    def __init__(self, weight: Tensor) -> None:
        self.facts = _facts(weight)
        # of Python: torch's own weak references keep the storage's record, and to free that one crashes torch 2.6
        self.storage = weakref.ref(weight.untyped_storage())
        self.step = _step(weight)
        self.sample = self._some(weight).clone()

    def holds(self, weight: Tensor) -> bool:
        """Whether `weight` is that tensor, or an alias of it, with the numbers of then."""
        same = self.facts == _facts(weight) and self.storage() is weight.untyped_storage()
        return same and torch.equal(self._some(weight), self.sample)

    def _some(self, weight: Tensor) -> Tensor:
        """Numbers in equal steps through memory."""
        return weight.as_strided((-(-weight.numel() // self.step),), (self.step,), weight.storage_offset())


def _facts(weight: Tensor) -> tuple[Any, ...]:
    return version(weight), weight.data_ptr(), weight.shape, weight.stride(), weight.dtype


def _step(weight: Tensor) -> int:
    """From one number of the sample to the next in memory: more numbers than there are filters or input channels.

    A step without a common divisor with the number of channels meets another channel each time.
    """
    count, (filters, channels, *_) = weight.numel(), weight.shape
    step = max(1, count // max(_SAMPLE, filters, channels))
    while math.gcd(step, count) > 1:
        step -= 1
    return step
