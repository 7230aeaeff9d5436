"""The input encoding: every channel and its inverse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional import add_inverse

SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=5).map(tuple)


@given(shape=SHAPES, data=st.data())
def test_a_channel_and_its_inverse_add_up_to_one(shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = torch.rand(shape, dtype=torch.float64)
    encoded = add_inverse(x, dim)
    assert [n // (2 if i == dim % len(shape) else 1) for i, n in enumerate(encoded.shape)] == list(shape)
    colour, inverse = encoded.chunk(2, dim)
    assert torch.equal(colour, x) and torch.equal(inverse, 1 - x)


def test_a_picture_and_its_negative_swap_halves() -> None:
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(add_inverse(1 - x), add_inverse(x).roll(3, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    assert add_inverse(torch.rand(1, 3, 2, 2).to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_what_would_wrap_around_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"add_inverse needs floats in \[0, 1\], got torch\.\w+: use x\.float\(\) / 255"):
        add_inverse(torch.zeros(1, 3, 2, 2, dtype=dtype))


def test_inside_a_network_the_one_is_a_named_constant() -> None:
    """A network that encodes its pictures itself is explained in its pictures."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        bnn.AddInverse(), bnn.BcosConv2d(6, 8, 3, padding=1), bnn.GlobalAveragePool(), bnn.AddInverse(), bnn.Logits(-1.0)
    )
    net, x = net.double().eval(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    e = torchbcos.explain(net, x, targets=[[1, 9], [1, 9]])
    assert list(e.constants) == ["0.inverse", "3.inverse", "4.bias"] and bool(e.complete.all())
    assert float(e.residual.abs().max()) < 1e-12
    assert torch.equal(e.constants["3.inverse"], torch.tensor([[0.0, 1.0]] * 2, dtype=torch.float64))
    torchbcos.testing.check_model(net, x)
