"""Activations and norms whose factor is held: the usual numbers forward, the held factor backward, in whatever layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchbcos
from torchbcos.kernels.gated import Gated, GatedInPlace, HeldBatchNorm

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda g: g,
    "channels_last": lambda g: g.contiguous(memory_format=torch.channels_last),
    "tokens": lambda g: g.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).reshape(g.shape),
    "columns first": lambda g: g.transpose(2, 3).contiguous().transpose(2, 3),
    "sliced": lambda g: torch.stack([g, g], 2).flatten(1, 2)[:, ::2],
    "one number a channel": lambda g: g[:, :, :1, :1].expand(g.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=10)
@given(n=st.integers(1, 3), c=st.integers(1, 4), side=st.integers(1, 4), affine=st.booleans())
def test_the_gradient_of_a_batch_norm(layout: str, n: int, c: int, side: int, affine: bool) -> None:
    x = torch.randn(n, c, side, side + 1, dtype=torch.float64, requires_grad=True)
    mean, var = torch.randn(c, dtype=torch.float64), torch.rand(c, dtype=torch.float64) + 0.1
    weight, bias = (torch.randn(2, c, dtype=torch.float64)) if affine else (None, None)
    g = LAYOUTS[layout](torch.randn(n, c, side, side + 1, dtype=torch.float64))
    y = HeldBatchNorm.apply(x, mean, var, weight, bias, 1e-5)
    assert torch.equal(y, F.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5))
    scale = (1 if weight is None else weight) / (var + 1e-5).sqrt()
    (found,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(found, g * scale.reshape(1, -1, 1, 1))


@pytest.mark.parametrize("n", [1, 2])
def test_a_stem_of_convolutions_before_tokens_is_explained(n: int) -> None:
    """One image, a convolution, a batch norm, tokens: torch's own backward pass gives another gradient here."""

    class Stem(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 4, 2, 2), torch.nn.BatchNorm2d(4)
            self.tokens, self.head = torch.nn.LayerNorm(4), torch.nn.Linear(4, 3)
            torch.nn.init.normal_(self.norm.weight)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.head(self.tokens(self.norm(self.conv(x)).flatten(2).transpose(1, 2))).mean(1)
            return scores

    e = torchbcos.explain(Stem().eval().double(), torch.randn(n, 3, 8, 8, dtype=torch.float64))
    assert float(e.residual.abs().max()) < 1e-12


@pytest.mark.parametrize("view", [lambda t: t, lambda t: t[:, :2], lambda t: t.view(2, -1)], ids=["whole", "slice", "view"])
def test_in_place_is_the_same(view: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 4, 3, requires_grad=True)
    apart = x * 2
    aside = view(apart)
    out = Gated.apply(aside, F.silu, torch.sigmoid, True)
    (expected,) = torch.autograd.grad(out.sum(), x)
    y = x * 2
    inside = GatedInPlace.apply(view(y), lambda t: F.silu(t, inplace=True), torch.sigmoid, True)
    assert torch.equal(inside, out) and torch.equal(view(y), out)
    (found,) = torch.autograd.grad(view(y).sum(), x)
    assert torch.equal(found, expected)
