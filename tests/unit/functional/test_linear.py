"""The B-cos linear map: any leading axes, against the float64 twin; and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from tests.reference import layers as twin
from torchbcos._core.errors import InputError
from torchbcos.functional import bcos_linear


@given(
    axes=st.lists(st.integers(1, 3), max_size=3), b=st.sampled_from([1, 1.5, 2]), max_out=st.sampled_from([1, 3]),
    unit=st.booleans(), eps=st.sampled_from([0.0, 1e-6]), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_leading_axes(axes: list[int], b: float, max_out: int, unit: bool, eps: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn([*axes, 5], dtype=torch.float64, generator=g)
    weight = torch.randn(2 * max_out, 5, dtype=torch.float64, generator=g)
    found = bcos_linear(x, weight, b=b, max_out=max_out, unit_norm=unit, eps=eps)
    assert found.shape == (*axes, 2)
    expected = twin.bcos_linear(x.reshape(-1, 5), weight, b=b, max_out=max_out, unit_norm=unit, eps=eps)
    torch.testing.assert_close(found.reshape(-1, 2), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "weight", "options", "text"),
    [
        (torch.ones(2, 4), torch.ones(3, 5), {}, r"Expected \(\.\.\., 5\), got shape \(2, 4\)"),
        (torch.tensor(1.0), torch.ones(3, 1), {}, r"Expected \(\.\.\., 1\), got shape \(\)"),
        (torch.ones(2, 5), torch.ones(3, 5, 1), {}, r"Expected"),
        (torch.ones(2, 5, dtype=torch.int64), torch.ones(3, 5), {}, r"floating-point tensor, got torch\.int64: convert it with"),
        (torch.ones(2, 5), torch.ones(3, 5), {"max_out": 2}, r"3 rows cannot be divided into MaxOut groups of 2"),
        (torch.ones(2, 5), torch.ones(3, 5), {"max_out": 0}, r"MaxOut groups of 0"),
    ],
)
def test_errors(x: torch.Tensor, weight: torch.Tensor, options: dict[str, int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        bcos_linear(x, weight, **options)


@pytest.mark.parametrize("max_out", [2, 3])
def test_maxout_of_an_empty_batch_is_empty(max_out: int) -> None:
    layer = torchbcos.nn.BcosLinear(8, 3, max_out=max_out)
    for x in (torch.zeros(0, 8), torch.zeros(0, 8).half()):
        assert layer.to(x.dtype)(x).shape == (0, 3)
        with torchbcos.frozen():
            assert layer(x).shape == (0, 3)


@pytest.mark.parametrize("max_out", [2, 3])
def test_of_equal_filters_the_first_learns(max_out: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 5, dtype=torch.float64)
    weight = torch.rand(1, 5, dtype=torch.float64).repeat(max_out, 1).requires_grad_()
    rows = []
    for create_graph in (False, True):
        out = torchbcos.functional.bcos_linear(x, weight, max_out=max_out)
        (g,) = torch.autograd.grad(out.sum(), weight, create_graph=create_graph)
        rows.append(g.detach())
    torch.testing.assert_close(rows[0], rows[1])
    assert bool(rows[0][0].any()) and not rows[0][1:].any()


def test_maxout_hides_no_number_that_is_none() -> None:
    weight = torch.eye(2)
    for x in (torch.tensor([[torch.nan, 1.0]]), torch.tensor([[1.0, torch.nan]])):
        assert bool(torchbcos.functional.bcos_linear(x, weight, max_out=2).isnan().all())
        with torch.enable_grad():
            leaf = weight.clone().requires_grad_()
            assert bool(torchbcos.functional.bcos_linear(x, leaf, max_out=2, b=1.5).isnan().all())
