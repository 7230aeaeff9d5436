"""Integers of every maker are integers, truth values are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchbcos._core.numbers import integer, positive_integer

INTEGERS = (2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2), torch.tensor(2, dtype=torch.uint8))
OTHERS = (
    True, False, np.bool_(True), np.array(True), torch.tensor(True), 2.0, np.float32(2), torch.tensor(2.0), "2", None, [2],
    np.array([2]), torch.tensor([2]), math.nan,
)  # fmt: skip


@pytest.mark.parametrize("value", INTEGERS, ids=lambda v: type(v).__name__)
def test_integers(value: object) -> None:
    assert integer(value) == positive_integer(value) == 2 and type(integer(value)) is int


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_what_is_no_integer(value: object) -> None:
    assert integer(value) is None and positive_integer(value) is None


def test_positive_ones_begin_at_one() -> None:
    assert [positive_integer(value) for value in (-1, 0, np.int8(1))] == [None, None, 1]
