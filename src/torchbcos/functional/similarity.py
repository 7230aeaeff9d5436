"""How like stored examples a token is."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos.functional.linear import bcos_linear
from torchbcos.functional.transform import LINEAR_EPS, bcos_transform, held_wide, layer_weight

__all__ = ["similarity"]


@atom()
def similarity(x: Tensor, examples: Tensor, *, b: float | Tensor = 2.0) -> Tensor:
    """`|cos(z, p)|^(B-1) · p̂·z`: the B-cos transform (arXiv 2306.10898, eq. 3) with examples p for filters.

    It is linear in the token z once the cosine is held, and at most ‖z‖, where z points as p does.

    Args:
        x: (N, T, D) tokens z.
        examples: (K, D), the same for all tokens, or (T, K, D), others at each place.
        b: exponent B ≥ 1.

    Returns:
        (N, T, K).

    Raises:
        InputError: shapes do not fit.

    >>> similarity(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[0.0, 2.0], [4.0, -3.0]]))
    tensor([[[3.2000, 0.0000]]])
    """
    if examples.dim() == 2:
        return bcos_linear(x, examples, b=b)
    if x.dim() != 3 or examples.dim() != 3 or x.shape[1:] != (examples.shape[0], examples.shape[2]):
        expected = (examples.shape[0], examples.shape[-1])
        raise InputError(f"Expected tokens (N, {', '.join(map(str, expected))}), got shape {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: convert it with .float().")
    units = layer_weight(examples.flatten(0, 1), True).reshape(examples.shape)
    # a product for each place: (T, N, D) times (T, D, K)
    products = torch.bmm(x.transpose(0, 1), units.transpose(1, 2)).transpose(0, 1)
    return bcos_transform(products, held_wide(x).square().sum(-1, keepdim=True), b, eps=0.0, norm_eps=LINEAR_EPS)
