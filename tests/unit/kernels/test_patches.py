"""Norms of patches by slices and by convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchbcos.functional import bcos_conv
from torchbcos.kernels import patches


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_derivatives_of_many_groups() -> None:
    x, w = double(1, 10, 5, 4), double(10, 1, 3, 3)
    for options in ({"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}):
        assert torch.autograd.gradcheck(lambda x, w, o=options: bcos_conv(x, w, groups=10, **o), (x, w))
        slices, convolutions = [], []
        for few, found in ((100, slices), (0, convolutions)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(patches, "_FEW", few)
                y = bcos_conv(x, w, groups=10, **options)  # type: ignore[arg-type]
                found += [y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))]
        torch.testing.assert_close(slices, convolutions)


@pytest.mark.parametrize("b", [2.0, 1.5])
def test_vmap_over_pictures_of_many_channels(b: float) -> None:
    x, w = torch.randn(4, 6, 5, 5), torch.randn(3, 6, 3, 3)
    rows = torch.func.vmap(lambda row: bcos_conv(row[None], w, b=b)[0])(x)
    torch.testing.assert_close(rows, bcos_conv(x, w, b=b))
