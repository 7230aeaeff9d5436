"""Slow twins of masked attention, of windows and of prototypes, token by token in float64, from the papers' equations.

Swin: Liu et al. 2021, arXiv 2103.14030, section 3.2 and eq. 4. Nothing here knows how the library cuts or masks: whether two
tokens see each other is decided by their places alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
    """`Σ_j α_ij v_j`, α_ij = m_ij e^(s_ij) / Σ_l m_il e^(s_il), of (N, heads, T, d); a query that sees nothing gets 0."""
    n, heads, count, d = value.shape
    out = torch.zeros(*query.shape[:3], d, dtype=torch.float64)
    for i in range(n):
        for h in range(heads):
            for a in range(query.shape[2]):
                products = [float(query[i, h, a] @ key[i, h, c]) / math.sqrt(query.shape[3]) for c in range(count)]
                scores = [product + float(bias[i, h, a, c]) for c, product in enumerate(products)]
                seen = [float(mask[i, h, a, c]) for c in range(count)]
                if not any(seen):
                    continue
                top = max(s for s, m in zip(scores, seen, strict=True) if m > 0)
                shares = [m * math.exp(s - top) if m > 0 else 0.0 for s, m in zip(scores, seen, strict=True)]
                for c in range(count):
                    out[i, h, a] += shares[c] / sum(shares) * value[i, h, c]
    return out


def window_of(place: int, side: int, window: int, shift: int) -> tuple[int, bool]:
    """The window that a token of one axis is in, and whether it got there around the end.

    The axis is filled up to a multiple of the window, and moved by the shift: token `shift` comes first.
    """
    filled = math.ceil(side / window) * window
    if side <= window:
        shift = 0
    moved = (place - shift) % filled
    return moved // window, place < shift


def see_each_other(a: tuple[int, int], c: tuple[int, int], size: tuple[int, int], window: int, shift: int) -> bool:
    """Whether two tokens are in one window, and got there the same way."""
    return all(window_of(a[i], size[i], window, shift) == window_of(c[i], size[i], window, shift) for i in (0, 1))


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor, *, window: int, shift: int, seen: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Of (N, heads, H, W, d): each token among those of its window, with β of `table` ((2M - 1)², heads)."""
    n, heads, height, width, d = value.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    mask = torch.zeros(n, heads, len(places), len(places), dtype=torch.float64)
    bias = torch.zeros_like(mask)
    for a, here in enumerate(places):
        for c, there in enumerate(places):
            if see_each_other(here, there, (height, width), window, shift):
                mask[:, :, a, c] = 1 if seen is None else seen[:, None, there[0], there[1]].double()
                step = [here[i] - there[i] + window - 1 for i in (0, 1)]
                bias[:, :, a, c] = table[step[0] * (2 * window - 1) + step[1]].double()
    flat = [t.reshape(n, heads, height * width, d).double() for t in (query, key, value)]
    return attention(*flat, mask, bias).reshape(n, heads, height, width, d)


def prototypes(tokens: Tensor, vectors: Tensor, weight: Tensor, b: float) -> Tensor:
    """(N, C, K): `Σ_i a_i |cos(z_i, p)|^(B-1) · p̂·z_i`, of tokens (N, T, D) and vectors (T, C, K, D).

    As in published B-cos layers, 1e-6 is added to the cosine unless B is 1 or 2.
    """
    n, count = tokens.shape[:2]
    out = torch.zeros(n, *vectors.shape[1:3], dtype=torch.float64)
    for i in range(n):
        for t in range(count):
            for c in range(vectors.shape[1]):
                for k in range(vectors.shape[2]):
                    z, p = tokens[i, t].double(), vectors[t, c, k].double()
                    along = float(z @ p / p.norm())
                    cosine = abs(along / float(z.norm()))
                    factor = 1.0 if b == 1 else cosine if b == 2 else (cosine + 1e-6) ** (b - 1)
                    out[i, c, k] += float(weight[i, t]) * factor * along
    return out
