"""Attention and gates: linear in the values, with held weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core.atoms import atom
from torchbcos._core.frozen import FULL, hold, mode

__all__ = ["attention", "gelu", "hardswish", "relu"]


@atom(signal=2)
def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`softmax(q kᵀ / sqrt(d)) v` with queries and keys held (arXiv 2306.10898, section 3.4).

    Args:
        query, key, value: (N, heads, T, d).

    Returns:
        (N, heads, T, d).
    """
    here = mode()
    query, key = hold(query), hold(key)
    if here == FULL:  # only the math backend has a second derivative
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


@atom(gives="activation")
def relu(x: Tensor) -> Tensor:
    """`x · [x > 0]` with the gate held: a ReLU is linear once it is known which units are on."""
    held = hold(x)
    return F.relu(x) if held is x else x * (held > 0).to(x.dtype)


@atom(gives="activation")
def gelu(x: Tensor) -> Tensor:
    """`x · Φ(x)` with the gate Φ held (exact GELU)."""
    held = hold(x)
    if held is x:
        return F.gelu(x)
    gate = 0.5 * (1 + torch.erf(held * 0.5**0.5))
    return x * gate


@atom(gives="activation")
def hardswish(x: Tensor) -> Tensor:
    """`x · min(max(x + 3, 0), 6) / 6` with the gate held (Howard et al. 2019, arXiv 1905.02244, section 5.2)."""
    held = hold(x)
    return F.hardswish(x) if held is x else x * F.hardsigmoid(held)
