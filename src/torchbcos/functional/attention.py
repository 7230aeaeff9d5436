"""Attention and gates: linear in the values, with held weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import FULL, hold, mode, parameter

__all__ = ["attention", "gelu", "hardswish", "relu"]


@atom(signal=2)
def attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, score_bias: Tensor | None = None
) -> Tensor:  # fmt: skip
    """`softmax(q kᵀ / sqrt(d)) v` with queries and keys held (arXiv 2306.10898, section 3.4).

    With a mask m and a score bias β a query i takes `Σ_j α_ij v_j`, `α_ij = m_ij e^(s_ij) / Σ_l m_il e^(s_il)`,
    `s = q kᵀ / sqrt(d) + β`. What is masked has a weight of exactly 0, and a query for which everything is masked takes 0. Mask
    and score bias are held as queries and keys are.

    Args:
        query, key, value: (N, heads, T, d).
        mask: which keys a query sees, broadcastable to (N, heads, T, T): True, or a number from 0. A
            floating-point mask has a gradient, which is finite where it is 0 (one that is added as its logarithm has none there).
            None: all.
        score_bias: β, broadcastable to (N, heads, T, T): relative positions, say (arXiv 2103.14030, eq. 4).

    Returns:
        (N, heads, T, d).

    Raises:
        InputError: a mask of whole numbers.

    >>> value = torch.tensor([[[[1.0], [5.0], [100.0]]]])
    >>> attention(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 3, 1), value, mask=torch.tensor([True, True, False]))
    tensor([[[[3.]]]])
    """
    here = mode()
    query, key = hold(query), hold(key)
    if score_bias is not None:
        score_bias = hold(parameter(score_bias)).to(query.dtype)
    if mask is not None:
        mask = hold(mask)
        if mask.dtype != torch.bool:
            return _weighted(query, key, value, mask, score_bias)
        return _masked(query, key, value, mask, score_bias, here)
    return _fused(query, key, value, score_bias, here)


def _fused(query: Tensor, key: Tensor, value: Tensor, added: Tensor | None, here: str) -> Tensor:
    if here == FULL:  # only the math backend has a second derivative
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, score_bias: Tensor | None, here: str) -> Tensor:
    """Attention under a mask of True and False; rows that see nothing see all, and become 0."""
    sees = mask.any(-1, keepdim=True)
    seen = mask | ~sees
    added = seen if score_bias is None else torch.where(seen, score_bias, -torch.inf)
    return _fused(query, key, value, added, here).masked_fill(~sees, 0)


_HIDDEN = 30.0  # a score that is hidden counts as at most so much above the highest that is seen: e^30 is a finite number


def _weighted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, score_bias: Tensor | None) -> Tensor:
    """Attention under a mask of numbers, written out: `m e^s / Σ m e^s`."""
    if not mask.is_floating_point():
        raise InputError(f"A mask is of True and False or of floating-point numbers, not {mask.dtype}: use mask.bool().")
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    scores = scores if score_bias is None else scores + score_bias
    highest = scores.detach().masked_fill(mask.detach() <= 0, -torch.inf).amax(-1, keepdim=True)
    weights = (scores - highest.nan_to_num(neginf=0.0)).clamp_max(_HIDDEN).exp()
    weights = weights * mask.to(scores.dtype)  # not clamped at 0: where it is 0, the gradient of a clamp is 0
    total = weights.sum(-1, keepdim=True)
    out: Tensor = (weights / torch.where(total > 0, total, torch.ones_like(total))) @ value
    return out


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
