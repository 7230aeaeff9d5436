"""Integers of every maker are integers, truth values are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchbcos._core.numbers import integer, positive_integer, real

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


@pytest.mark.parametrize(
    "value", [*INTEGERS, 2.0, np.float32(2), np.array(2.0), torch.tensor(2.0)], ids=lambda v: type(v).__name__
)
def test_real_numbers(value: object) -> None:
    assert real(value) == 2 and type(real(value)) is float


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), "2", None, [2], torch.tensor([2.0]), 2j, torch.tensor(2j)], ids=repr
)
def test_what_is_no_real_number(value: object) -> None:
    assert real(value) is None
