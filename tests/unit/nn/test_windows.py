"""Attention within windows: its slow twin over sizes, windows and shifts; exactness; what fills up acts on nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import windows as slow
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError


def layer_of(window: int, shift: int, *, qkv: bool = True, seed: int = 0) -> bnn.WindowAttention:
    torch.manual_seed(seed)
    to_qkv = bnn.BcosLinear(6, 24, max_out=2) if qkv else None
    layer = bnn.WindowAttention(6, 2, window=window, shift=shift, head_dim=4, norm=bnn.TokenNorm(6, bias=False), to_qkv=to_qkv)
    nn.init.normal_(layer.relative_position)
    return layer.double().eval()


@torch.no_grad()
def by_hand(layer: bnn.WindowAttention, x: Tensor, seen: Tensor | None = None) -> Tensor:
    """The same by the slow twin; only the maps before and after are the layer's own."""
    assert layer.norm is not None
    parts = layer.to_qkv(layer.norm(x)).unflatten(-1, (3, 2, 4)).permute(3, 0, 4, 1, 2, 5)
    mixed = slow.window_attention(*parts, layer.relative_position, window=layer.window, shift=layer.shift, seen=seen)
    out: Tensor = layer.to_out(mixed.permute(0, 2, 3, 1, 4).flatten(-2))
    return out


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    window=st.integers(1, 4),
    data=st.data(),
)
def test_windows_are_their_slow_twin(seed: int, height: int, width: int, window: int, data: st.DataObject) -> None:
    layer = layer_of(window, data.draw(st.integers(0, window - 1)), qkv=data.draw(st.booleans()), seed=seed)
    x = torch.randn(2, height, width, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=1e-9, atol=1e-10)
    seen = torch.rand(2, height, width) < 0.6
    expected = by_hand(layer, x, seen)
    torch.testing.assert_close(layer(x, seen), expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(layer(x, seen.double()), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("window", [7, 8])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(14, 16), (9, 13), (5, 20)])
def test_windows_of_the_paper_are_exact(window: int, shifted: bool, size: tuple[int, int]) -> None:
    layer = layer_of(window, window // 2 if shifted else 0)
    torchbcos.testing.check_layer(layer, torch.randn(2, *size, 6, dtype=torch.float64))


@given(seed=st.integers(0, 10_000))
def test_what_is_in_another_window_acts_on_nothing(seed: int) -> None:
    layer = layer_of(3, 1, seed=seed)
    x = torch.randn(1, 5, 7, 6, dtype=torch.float64)
    y, z = seed % 5, seed % 7
    changed = x.clone()
    changed[0, y, z] = torch.randn(6, dtype=torch.float64)
    moved = (layer(changed) != layer(x)).any(-1)[0]
    for a in range(5):
        for c in range(7):
            together = slow.see_each_other((a, c), (y, z), (5, 7), 3, 1)
            assert together or not moved[a, c]
    assert bool(moved.any())


def test_the_comparison_can_fail() -> None:
    layer = layer_of(3, 1)
    x = torch.randn(1, 6, 6, 6, dtype=torch.float64)
    good = by_hand(layer, x)
    layer.shift = 0
    assert (layer(x) - good).abs().max() > 1e-3
    layer.shift = 1
    with torch.no_grad():
        layer.relative_position[0] += 1
    assert (layer(x) - good).abs().max() > 1e-4


def test_windows_say_what_they_take() -> None:
    layer = layer_of(3, 1)
    with pytest.raises(InputError, match=r"Channels come last in tokens: x\.movedim"):
        layer(torch.zeros(1, 6, 4, 4))
    with pytest.raises(InputError, match=r"mask of shape \(1, 4, 4\)"):
        layer(torch.zeros(1, 4, 4, 6).double(), torch.ones(1, 4))
    with pytest.raises(InputError, match="window 3, shift 3"):
        bnn.WindowAttention(6, 2, window=3, shift=3)
    for sizes in ({"window": 2.5}, {"window": "3"}, {"shift": 1.5}, {"shift": None}):
        with pytest.raises(InputError, match="must be a whole number from"):
            bnn.WindowAttention(6, 2, **sizes)  # type: ignore[arg-type]


def test_transforms_of_torch_reach_windows() -> None:
    layer = layer_of(3, 1)
    x = torch.randn(1, 5, 4, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad(layer(leaf := x.clone().requires_grad_()).sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda a: layer(a).sum())(x), expected)
