"""The B-cos transform against its definition, and the filters of unit norm."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.reference.layers import scaled
from torchbcos._core.errors import InputError
from torchbcos.functional import bcos_transform, unit_norm_weight

EXPONENTS = st.sampled_from([1, 1.0, 1.25, 2, 2.0, 3.5])
NUMBERS = st.floats(-5, 5).filter(lambda v: v == 0 or abs(v) > 1e-3)


def twin(linear: Tensor, squares: Tensor, b: float, eps: float, norm_eps: float) -> Tensor:
    """Number by number."""
    rows = zip(linear.tolist(), squares.tolist(), strict=True)
    return torch.tensor([scaled(y, math.sqrt(s + eps) + norm_eps, b) for y, s in rows], dtype=torch.float64)


@given(
    values=st.lists(NUMBERS, min_size=1, max_size=6),
    b=EXPONENTS,
    eps=st.sampled_from([1e-6, 0.1]),
    more=st.sampled_from([0.0, 0.5]),
)
def test_the_definition(values: list[float], b: float, eps: float, more: float) -> None:
    linear = torch.tensor(values, dtype=torch.float64)
    squares = linear.square() + torch.arange(len(values)) + 0.25
    expected = twin(linear, squares, b, eps, more)
    torch.testing.assert_close(bcos_transform(linear, squares, b, eps=eps, norm_eps=more), expected)
    learnable = torch.tensor(float(b), dtype=torch.float64, requires_grad=True)
    if b not in (1, 2):  # a tensor never takes the short ways, which leave out the 1e-6 beside |cos|
        torch.testing.assert_close(bcos_transform(linear, squares, learnable, eps=eps, norm_eps=more).detach(), expected)


def test_a_wrong_exponent_would_be_seen() -> None:
    linear, squares = torch.tensor([0.5], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    assert not torch.allclose(bcos_transform(linear, squares, 3.0), twin(linear, squares, 2.0, 1e-6, 0.0), rtol=0.1)


def test_an_exponent_of_one_changes_nothing() -> None:
    linear = torch.randn(3, 4)
    assert torch.equal(bcos_transform(linear, torch.rand(3, 1), 1), linear)


def test_half_precision_squares_may_exceed_what_it_holds() -> None:
    linear, squares = torch.tensor([300.0]).half(), torch.tensor([90_000.0])
    assert float(bcos_transform(linear, squares, 2.0)) == pytest.approx(300, rel=1e-3)


def test_nothing_seen_is_zero_with_a_finite_gradient() -> None:
    linear, squares = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out = bcos_transform(linear, squares, 2.0, eps=0.0)
    assert torch.equal(out, torch.zeros(2, dtype=torch.float64))
    for gradient in torch.autograd.grad(out.sum(), (linear, squares)):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("b", [0.5, -1, math.nan, True, "2", None])
def test_exponents_below_one_are_refused(b: object) -> None:
    with pytest.raises(InputError, match=r"b must be a real number of at least 1, not "):
        bcos_transform(torch.ones(1), torch.ones(1), b)  # type: ignore[arg-type]


@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4), seed=st.integers(0, 999))
def test_filters_of_unit_norm(shape: list[int], seed: int) -> None:
    weight = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weight[0] = 0
    unit = unit_norm_weight(weight)
    norms = unit.flatten(1).norm(dim=1).tolist()
    assert norms == pytest.approx([0.0] + [1.0] * (shape[0] - 1))
    torch.testing.assert_close(unit * weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (len(shape) - 1)), weight)


def test_the_gradient_of_unit_filters() -> None:
    weight = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_norm_weight, (weight,))
    assert torch.autograd.gradgradcheck(unit_norm_weight, (weight,))
