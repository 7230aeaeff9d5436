"""Attention modules that hand their weights to a function, so that swapping the layers inside them would change nothing.

They keep the names of their parameters. Queries and keys are held as everywhere; values and the output are layers of ours.
Shapes: N images, T tokens, D features, heads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.frozen import hold
from torchbcos.functional import attention
from torchbcos.functional.length import vector_length

__all__ = ["MultiheadAttention", "PooledAttention", "WindowAttention", "fits_multihead"]


def fits_multihead(old: nn.Module) -> bool:
    """Whether `MultiheadAttention` can stand in the place of a `torch.nn.MultiheadAttention`."""
    plain = isinstance(old, nn.MultiheadAttention) and old._qkv_same_embed_dim and old.bias_k is None
    return plain and not old.add_zero_attn


class MultiheadAttention(nn.Module):
    """In the place of `torch.nn.MultiheadAttention`: the same maps, its output layer a converted one.

    Args:
        old: that.
        biases: rule of the biases of the values and of the output.
        out: settings of the output layer.
    """

    def __init__(self, old: nn.MultiheadAttention, biases: str, out: dict[str, Any]) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.batch_first, self.dropout = (
            old.embed_dim,
            old.num_heads,
            old.batch_first,
            old.dropout,
        )
        self.biases = biases
        self._qkv_same_embed_dim = False  # so that torch's transformer layer takes no way past this module
        self.in_proj_weight, self.in_proj_bias = old.in_proj_weight, old.in_proj_bias
        self.out_proj = bnn.BcosifiedLinear(old.embed_dim, old.embed_dim, old.out_proj.bias is not None, biases=biases, **out)
        self.register_buffer("unit", torch.tensor(old.embed_dim**0.5))
        self.unit: Tensor

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """As `torch.nn.MultiheadAttention`: the output, and the weights where they are asked for."""
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        biases = [None] * 3 if self.in_proj_bias is None else list(self.in_proj_bias.chunk(3))
        weights = self.in_proj_weight.chunk(3)
        q, k = (F.linear(hold(t), w, b) for t, w, b in zip((query, key), weights, biases, strict=False))
        v = F.linear(value, weights[2], biases[2] if self.biases == "keep" else None)
        if biases[2] is not None and self.biases == "norm":
            v = v + biases[2] * (vector_length(value) / self.unit)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        mask = _joined(attn_mask, key_padding_mask, q)
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            shares: Tensor | None = hold((scores if mask is None else scores + mask).softmax(-1))
            mixed = shares @ v  # type: ignore[operator]
        else:
            shares, rate = None, self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate, is_causal=is_causal and mask is None)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if shares is not None and average_attn_weights:
            shares = shares.mean(1)
        return out if self.batch_first else out.transpose(0, 1), shares


def _joined(mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """What is added to the scores: masks of `torch.nn.MultiheadAttention`, whose True means "not allowed"."""
    found = None if mask is None else _added(mask, q)
    if found is not None and found.dim() == 3:
        found = found.unflatten(0, (-1, q.shape[1]))
    if padding is not None:
        more = _added(padding, q)[:, None, None]
        found = more if found is None else found + more
    return found


def _added(mask: Tensor, q: Tensor) -> Tensor:
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -math.inf) if mask.dtype is torch.bool else mask.to(q.dtype)


class WindowAttention(nn.Module):
    """In the place of torchvision's `ShiftedWindowAttention`, V1 and V2 (Liu et al., arXiv 2103.14030 and 2111.09883).

    Args:
        old: that.
        biases: rule of the biases of queries, keys and values together, and of the output.
        out: settings of the output layer.
    """

    def __init__(self, old: Any, biases: str, out: dict[str, Any]) -> None:
        super().__init__()
        self.window_size, self.shift_size = list(old.window_size), list(old.shift_size)
        self.num_heads, self.attention_dropout, self.dropout = old.num_heads, old.attention_dropout, old.dropout
        dim = old.qkv.in_features
        self.qkv = bnn.BcosifiedLinear(dim, 3 * dim, old.qkv.bias is not None, b=1, biases=biases)
        self.proj = bnn.BcosifiedLinear(dim, dim, old.proj.bias is not None, biases=biases, **out)
        self.register_buffer("relative_position_index", old.relative_position_index)
        self.second = hasattr(old, "cpb_mlp")
        if self.second:
            self.register_buffer("relative_coords_table", old.relative_coords_table)
            self.logit_scale, self.cpb_mlp = old.logit_scale, old.cpb_mlp
        else:
            self.relative_position_bias_table = old.relative_position_bias_table

    def position_bias(self) -> Tensor:
        """(1, heads, T, T): what the distance of two tokens of a window adds to their score."""
        size = self.window_size[0] * self.window_size[1]
        table = (
            self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
            if self.second
            else self.relative_position_bias_table
        )
        found: Tensor = table[self.relative_position_index.view(-1)].view(size, size, -1).permute(2, 0, 1).unsqueeze(0)
        return 16 * found.sigmoid() if self.second else found

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, D) to the same shape; every token of a window sees every other."""
        (n, height, width, dim), (wh, ww) = x.shape, self.window_size
        x = F.pad(x, (0, 0, 0, -width % ww, 0, -height % wh))
        high, wide = x.shape[1:3]
        shift = [0 if size >= whole else by for size, whole, by in zip((wh, ww), (high, wide), self.shift_size, strict=True)]
        moved = any(shift)
        x = torch.roll(x, (-shift[0], -shift[1]), (1, 2)) if moved else x
        windows = (high // wh) * (wide // ww)
        x = x.view(n, high // wh, wh, wide // ww, ww, dim).transpose(2, 3).reshape(n * windows, wh * ww, dim)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scale = q.shape[-1] ** -0.5
        if self.second:
            q, k, scale = F.normalize(q, dim=-1), F.normalize(k, dim=-1), self.logit_scale.clamp(max=math.log(100.0)).exp()
        scores = hold(q) @ hold(k).transpose(-2, -1) * scale + self.position_bias()
        if moved:
            mask = self._apart(high, wide, shift, x)
            scores = (scores.unflatten(0, (n, windows)) + mask[None, :, None]).flatten(0, 1)
        shares = F.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        out = self.proj((shares @ v).transpose(1, 2).flatten(2))
        out = F.dropout(out, self.dropout, self.training)
        out = out.view(n, high // wh, wide // ww, wh, ww, dim).transpose(2, 3).reshape(n, high, wide, dim)
        out = torch.roll(out, (shift[0], shift[1]), (1, 2)) if moved else out
        found: Tensor = out[:, :height, :width]
        return found

    def _apart(self, high: int, wide: int, shift: list[int], x: Tensor) -> Tensor:
        """(windows, T, T): minus a hundred between tokens that only the roll made neighbours."""
        (wh, ww), regions = self.window_size, x.new_zeros((high, wide))
        rows = [(0, high - wh), (high - wh, high - shift[0]), (high - shift[0], high)]
        columns = [(0, wide - ww), (wide - ww, wide - shift[1]), (wide - shift[1], wide)]
        for number, ((top, bottom), (left, right)) in enumerate((r, c) for r in rows for c in columns):
            regions[top:bottom, left:right] = number
        tokens = regions.view(high // wh, wh, wide // ww, ww).permute(0, 2, 1, 3).reshape(-1, wh * ww)
        return torch.where(tokens.unsqueeze(1) == tokens.unsqueeze(2), 0.0, -100.0).to(x.dtype)


class PooledAttention(nn.Module):
    """In the place of CLIP's `AttentionPool2d`: the mean token asks all positions (Radford et al. 2021, arXiv 2103.00020).

    Args:
        old: that.
        biases: rule of the biases of the values and of the output.
        out: settings of the output layer.
    """

    def __init__(self, old: Any, biases: str, out: dict[str, Any]) -> None:
        super().__init__()
        self.num_heads, self.positional_embedding = old.num_heads, old.positional_embedding
        self.q_proj, self.k_proj = old.q_proj, old.k_proj
        self.v_proj = bnn.BcosifiedLinear(old.v_proj.in_features, old.v_proj.out_features, b=1, biases=biases)
        self.c_proj = bnn.BcosifiedLinear(old.c_proj.in_features, old.c_proj.out_features, biases=biases, **out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O)."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positional_embedding[None].to(x.dtype)
        q, k = self.q_proj(hold(tokens[:, :1])), self.k_proj(hold(tokens))
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, self.v_proj(tokens)))
        out: Tensor = self.c_proj(attention(q, k, v).transpose(1, 2).flatten(1))
        return out
