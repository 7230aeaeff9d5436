"""Attention and gates: linear in the values, with held weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core.atoms import atom
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.frozen import FULL, current, hold, mode, parameter
from torchbcos._core.torch_private import transformed

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
        mask: which keys a query sees, broadcastable to (N, heads, T, T): True, or a number from 0 (what is below counts as 0). A
            floating-point mask has a gradient, which is finite where it is 0 (one that is added as its logarithm has none there);
            of a hidden key whose score is by more than 30 above all that are seen, it is that of 30. None: all.
        score_bias: β, broadcastable to (N, heads, T, T): relative positions, say (arXiv 2103.14030, eq. 4).

    Returns:
        (N, heads, T, d).

    Raises:
        ArgumentTypeError: mask or score bias is no tensor.
        InputError: one of them does not broadcast to the scores, or a mask is of whole numbers.

    >>> value = torch.tensor([[[[1.0], [5.0], [100.0]]]])
    >>> attention(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 3, 1), value, mask=torch.tensor([True, True, False]))
    tensor([[[[3.]]]])
    """
    shape = (*query.shape[:-1], key.shape[-2])
    query, key = hold(query), hold(key)
    if score_bias is not None:
        score_bias = hold(parameter(_spread(score_bias, shape, "score bias"))).to(query.dtype)
    if mask is None:
        return _fused(query, key, value, score_bias)
    mask = hold(_spread(mask, shape, "mask"))
    if mask.dtype != torch.bool:
        return _weighted(query, key, value, mask, score_bias)
    return _masked(query, key, value, mask, score_bias)


def _spread(given: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """A mask or a score bias with as many axes as the scores.

    Raises:
        ArgumentTypeError: it is no tensor.
        InputError: it does not broadcast to their shape.
    """
    if not isinstance(given, Tensor):
        raise ArgumentTypeError(f"A {name} is a tensor, not {type(given).__name__}.")
    fits = given.dim() <= len(shape) and all(
        side in (1, whole) for side, whole in zip(reversed(given.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise InputError(f"A {name} must broadcast to the scores, {tuple(shape)}: got shape {tuple(given.shape)}.")
    return given.reshape(*[1] * (len(shape) - given.dim()), *given.shape)


def _fused(query: Tensor, key: Tensor, value: Tensor, added: Tensor | None) -> Tensor:
    """torch's own attention; only its math backend has a second derivative, and masks that are differentiated in a transform."""
    here, state = mode(), current()
    if here == FULL or (state is not None and not state.detach) or (added is not None and transformed()):
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, score_bias: Tensor | None) -> Tensor:
    """Attention under a mask of True and False; rows that see nothing see all, and become 0."""
    sees = mask.any(-1, keepdim=True)
    seen = mask | ~sees
    added = seen if score_bias is None else torch.where(seen, score_bias, -torch.inf)
    return _fused(query, key, value, added).masked_fill(~sees, 0)


_HIDDEN = 30.0  # a score that is hidden counts as at most so much above the highest that is seen: e^30 is a finite number


def _weighted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, score_bias: Tensor | None) -> Tensor:
    """Attention under a mask of numbers, written out: `m e^s / Σ m e^s`; half precision in float32."""
    if not mask.is_floating_point():
        raise InputError(f"A mask is of True and False or of floating-point numbers, not {mask.dtype}: use mask.bool().")
    if key.shape[-2] == 0:
        return value.new_zeros(*query.shape[:-1], value.shape[-1])
    wide = torch.promote_types(value.dtype, torch.float32)
    scores = (query.to(wide) * query.shape[-1] ** -0.5) @ key.to(wide).transpose(-2, -1)
    scores = scores if score_bias is None else scores + score_bias
    highest = scores.detach().masked_fill(mask.detach() <= 0, -torch.inf).amax(-1, keepdim=True)
    weights = (scores - highest.nan_to_num(neginf=0.0)).clamp_max(_HIDDEN).exp()
    weights = weights * (mask * (mask >= 0)).to(wide)  # not clamped: where the mask is 0, the gradient of a clamp is 0
    total = weights.sum(-1, keepdim=True)
    out: Tensor = (weights / torch.where(total > 0, total, torch.ones_like(total))) @ value.to(wide)
    return out.to(value.dtype)


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
