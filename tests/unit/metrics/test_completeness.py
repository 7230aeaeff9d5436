"""The residual: twin, closed forms, laws, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from tests.reference import completeness as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import residual

NUMBERS = st.floats(-100, 100)


@given(
    rows=st.integers(1, 6).flatmap(lambda p: st.lists(st.lists(NUMBERS, min_size=p, max_size=p), min_size=1, max_size=3)),
    constants=st.lists(NUMBERS, max_size=3),
    logit=NUMBERS,
    floor=st.sampled_from([1e-3, 1.0, 10.0]),
)
def test_every_map_has_its_twins_number(rows: list[list[float]], constants: list[float], logit: float, floor: float) -> None:
    maps = torch.tensor(rows, dtype=torch.float64)
    named = {f"c{i}": torch.full((len(rows),), c, dtype=torch.float64) for i, c in enumerate(constants)}
    found = residual(maps, named, torch.full((len(rows),), logit, dtype=torch.float64), floor=floor)
    assert found.tolist() == pytest.approx([twin.residual(row, constants, logit, floor) for row in rows], rel=1e-9, abs=1e-9)


def test_closed_forms() -> None:
    maps = torch.tensor([[3.0, 1.0]] * 4)
    values = torch.tensor([5.0, 4.0, -4.0, 0.1])
    assert residual(maps, 1.0, values).tolist() == pytest.approx([0.0, 0.25, 9 / 4, 4.9])
    assert residual(maps, torch.tensor([1.0, 0.0, 0.0, 0.0]), values).tolist() == pytest.approx([0.0, 0.0, 2.0, 3.9])
    assert residual(maps, 1.0, values, floor=0.1).tolist() == pytest.approx([0.0, 0.25, 9 / 4, 49.0])
    assert residual(maps, {}, values).tolist() == pytest.approx([0.2, 0.0, 2.0, 3.9])


def test_an_explanation_has_none_and_half_of_it_has() -> None:
    model = torchbcos.create_model("cifar10_resnet20", num_classes=3).eval()
    x = torchbcos.functional.add_inverse(torch.rand(2, 3, 16, 16))
    e = torchbcos.explain(model, x, 1)
    constants = {name: c[:, 0] for name, c in e.constants.items()}
    assert constants and residual(e.contributions[:, 0], constants, e.values[:, 0]).max() < 1e-5
    assert residual(e.contributions[:, 0], 0.0, e.values[:, 0]).min() > 0.1  # the logit's bias belongs to no pixel


def test_sums_of_many_float32_pixels_lose_nothing() -> None:
    maps = torch.full((1, 1000, 1000), 0.1)
    exact = 1_000_000 * float(torch.tensor(0.1).double())
    assert residual(maps, 0.0, torch.tensor([exact], dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize(
    ("constants", "values", "floor", "said"),
    [
        (0.0, torch.ones(3), 1.0, r"values must be \(2,\), a real number an image, not \(3,\)"),
        (torch.ones(2, 1), torch.ones(2), 1.0, r"constants must be \(2,\)"),
        ({"head.bias": torch.ones(3)}, torch.ones(2), 1.0, r"'head.bias' must be \(2,\)"),
        (0.0, torch.tensor([1.0, math.nan]), 1.0, "values has numbers that are not finite"),
        (math.inf, torch.ones(2), 1.0, "constants has numbers that are not finite"),
        (0.0, torch.ones(2), 0.0, "floor is a positive number, not 0.0"),
    ],
)
def test_what_does_not_fit(constants: object, values: torch.Tensor, floor: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        residual(torch.ones(2, 3), constants, values, floor=floor)  # type: ignore[arg-type]


def test_what_is_no_tensor() -> None:
    with pytest.raises(ArgumentTypeError, match="values must be a tensor"):
        residual(torch.ones(2, 3), 0.0, [1.0, 2.0])  # type: ignore[arg-type]


def test_the_twin_sees_a_wrong_metric() -> None:
    assert twin.residual([3.0, 1.0], [1.0], 4.0, 1.0) == 0.25  # a sign that is wrong would give 0.25 with constant -1, and
    assert twin.residual([3.0, 1.0], [-1.0], 5.0, 1.0) == 0.4  # here nothing
    assert twin.residual([3.0], [], -4.0, 1.0) == 7 / 4  # not relative to the value with its sign
