from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.bcosified import length
from torchbcos._core.frozen import frozen
from torchbcos.functional import patch_length, vector_length


@settings(deadline=None, max_examples=25)
@given(
    stride=st.integers(1, 2), padding=st.integers(0, 1), dilation=st.integers(1, 2), kernel=st.integers(1, 3),
    eps=st.sampled_from([0.0, 1e-6, 1e-2]), seed=st.integers(0, 9),
)  # fmt: skip
def test_lengths_of_patches_equal_their_twin(
    stride: int, padding: int, dilation: int, kernel: int, eps: float, seed: int
) -> None:
    x = torch.randn(1, 2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[:, :, :3] = 0
    found = patch_length(x, (kernel,), stride=stride, padding=padding, dilation=dilation, eps=eps)
    padded = torch.nn.functional.pad(x, (padding, padding))
    for i in range(found.shape[2]):
        places = [i * stride + d * dilation for d in range(kernel)]
        assert float(found[0, 0, i]) == pytest.approx(length(padded[0, :, places].flatten().tolist(), eps), abs=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_a_length_is_linear_once_its_direction_is_held(eps: float) -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    with frozen():
        y = patch_length(x, (3, 3), stride=2, padding=1, eps=eps)
    (w,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose((w * x).sum(), y.sum(), rtol=1e-12)
    with frozen():
        v = vector_length(x, 1, eps=eps)
    (w,) = torch.autograd.grad(v.sum(), x)
    assert torch.allclose((w * x).sum(1), v[:, 0])


def test_a_length_outside_has_its_own_derivative() -> None:
    x = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: patch_length(t, (2,)), x)
    assert torch.autograd.gradcheck(lambda t: vector_length(t, 1), x)


def test_half_precision_does_not_overflow() -> None:
    x = torch.full((1, 1000), 300.0, dtype=torch.float16)  # its square is above what float16 holds
    assert float(vector_length(x)) == pytest.approx(300 * 1000**0.5, rel=1e-3)
    assert float(vector_length(torch.zeros(1, 4), eps=0.0)) == 0
