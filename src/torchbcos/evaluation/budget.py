"""Comparisons that must be done by a certain time: fewer samples, then fewer pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import real
from torchbcos.evaluation.choosing import Chosen
from torchbcos.evaluation.named import NamedMethod
from torchbcos.evaluation.units import Worker, value_key

__all__ = ["within_budget"]

_ENOUGH = 30  # items, below which samples are spared first
_LEAST = 8  # the part of a method's samples that stays, one in so many
_COUNTS = ("samples", "steps", "copies", "points")


def within_budget(worker: Worker, seconds: float) -> Worker:
    """The same work with fewer samples and items, so that it takes about so long; the first item of each kind is measured.

    Raises:
        InputError: the budget is no positive number.
    """
    given = real(seconds)
    if given is None or given <= 0:
        raise InputError(f"budget is seconds, a positive number, not {seconds!r}.")
    return worker
