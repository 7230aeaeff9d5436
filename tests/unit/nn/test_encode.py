"""Normalisation as a layer: the numbers of the preprocessing, and its mean as a constant."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional import add_inverse
from torchbcos.pictures import Preprocess

numbers = st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 3)), min_size=1, max_size=4)


@given(numbers, st.integers(0, 2), st.sampled_from([torch.float32, torch.float64]))
def test_normalisation_is_that_of_the_preprocessing_to_the_bit(
    moments: list[tuple[float, float]], axes: int, kind: torch.dtype
) -> None:
    mean, std = ([pair[i] for pair in moments] for i in range(2))
    x = torch.rand(2, len(mean), *[3] * axes, dtype=kind)
    prepare = Preprocess(encoding="normalize", mean=tuple(mean), std=tuple(std), raw_channels=len(mean))
    assert torch.equal(bnn.Normalize(mean, std)(x), prepare.encode(x, 1))


def test_its_mean_is_a_constant() -> None:
    """What the mean gives, computed by hand: -W·mean/std of the network behind it."""
    network = nn.Sequential(
        bnn.Normalize((0.5, 0.25, -1.0), (0.1, 2.0, 0.5)), nn.Conv2d(3, 2, 1), bnn.GlobalAveragePool()
    ).double()
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    e = torchbcos.explain(network, x, torch.tensor([[0, 1]] * 2))
    rows = network[1].weight[:, :, 0, 0] / torch.tensor([0.1, 2.0, 0.5], dtype=torch.float64)  # (classes, channels)
    assert torch.allclose(e.weights, (rows / 16)[None, :, :, None, None].expand_as(e.weights), atol=1e-12)
    assert torch.allclose(e.constants["0.mean"], -(rows @ torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64)).expand(2, 2))
    assert set(e.constants) == {"0.mean", "1.bias"} and bool(e.complete.all())


def test_another_dtype_behind_it() -> None:
    layer = bnn.Normalize((0.5,), (0.5,), dtype=torch.bfloat16)
    assert layer(torch.rand(1, 1, 2, 2)).dtype == torch.bfloat16 and "mean=(0.5,), std=(0.5,)" in repr(layer)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.0,), "std above 0"),
        ((0.5, 0.1), (1.0,), "are as many numbers"),
        ((), (), "a finite number a channel"),
        ((float("nan"),), (1.0,), "a finite number a channel"),
        ("ab", (1.0, 1.0), "a finite number a channel"),
    ],
)
def test_numbers_that_are_none(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bnn.Normalize(mean, std)
    with pytest.raises(InputError, match="dtype is one of float64, "):
        bnn.Normalize((0.5,), (1.0,), dtype="int8")


def test_other_channels() -> None:
    with pytest.raises(InputError, match="for 3 channels; got x of shape"):
        bnn.Normalize((0.5,) * 3, (1.0,) * 3)(torch.rand(1, 6, 2, 2))


@pytest.mark.parametrize("space", [(), (5,), (3, 4), (2, 3, 2)])
def test_encoded_pictures_are_normalised_channel_by_channel_and_leave_no_constant(space: tuple[int, ...]) -> None:
    mean, std = (0.485, 0.25), (0.229, 2.0)
    x = add_inverse(torch.rand(2, 2, *space, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    layer = bnn.NormalizeEncoded(mean, std)
    wanted = torch.stack(
        [(x[:, i] - m) / s for i, (m, s) in enumerate(zip([*mean, *(1 - m for m in mean)], [*std, *std], strict=True))], 1
    )
    assert torch.allclose(layer(x), wanted, rtol=0, atol=1e-14)
    assert torch.equal(layer(torch.zeros_like(x)), torch.zeros_like(x)) and torch.allclose(layer(3 * x), 3 * wanted)
    assert "mean=(0.485, 0.25), std=(0.229, 2.0)" in repr(layer)


def test_encoded_pictures_of_other_channels() -> None:
    with pytest.raises(InputError, match=r"takes \[x, 1 - x\], 6 channels; got x of shape \(1, 3, 2, 2\)"):
        bnn.NormalizeEncoded((0.5,) * 3, (1.0,) * 3)(torch.rand(1, 3, 2, 2))
    with pytest.raises(InputError, match="std above 0"):
        bnn.NormalizeEncoded((0.5,), (0.0,))
