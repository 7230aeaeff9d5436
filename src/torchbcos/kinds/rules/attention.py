"""Attention is linear in its values: queries and keys, and so the weights, are held (arXiv 2306.10898, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core.errors import StateError
from torchbcos.kinds.call import Call, Outcome
from torchbcos.kinds.kind import LINEAR, Kind

__all__ = ["attention", "multihead", "written_out"]


def attention(call: Call) -> Outcome:
    """`softmax(q kᵀ / sqrt(d)) v`, linear in v."""
    q, k, v = call.argument(0, "query"), call.argument(1, "key"), call.argument(2, "value")
    if call.kind(v) is not Kind.LINEAR:
        return call.bent(f"its values are held{call.giver()}" if call.kind(v) is Kind.GATE else "")
    rest = [call.held(a) for a in call.args[3:]]
    options = {name: call.held(a) for name, a in call.kwargs.items() if name not in ("query", "key", "value")}
    if call.watch.full or not call.watch.state.detach:  # only the math backend has a second derivative
        with sdpa_kernel(SDPBackend.MATH):
            return call.run(call.held(q), call.held(k), v, *rest, **options), LINEAR
    return call.run(call.held(q), call.held(k), v, *rest, **options), LINEAR


_NAMES = (
    "query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias", "bias_k", "bias_v",
    "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias", "training", "key_padding_mask", "need_weights", "attn_mask",
    "use_separate_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "static_k", "static_v", "average_attn_weights",
    "is_causal",
)  # fmt: skip


def multihead(call: Call) -> Outcome:
    """What `torch.nn.MultiheadAttention` computes, by operations that have rules."""
    given = _given(call.args, call.kwargs)
    if odd := _odd(given):
        return call.bent(f"with {odd}")
    (value, weights), _ = call.again(lambda: _multihead(given))
    if weights is not None:
        call.apart[id(weights)] = call.known(weights)
    return (value, weights), call.known(value)


def written_out(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """`torch.nn.functional.multi_head_attention_forward` of these arguments, by plain operations.

    Raises:
        StateError: they have keys or values of their own, which no network of pictures has.
    """
    given = _given(args, kwargs)
    if odd := _odd(given):
        raise StateError(f"This network's MultiheadAttention has {odd}, and its tokens are not those of the picture alone.")
    return _multihead(given)


def _given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"training": True, "need_weights": True, "average_attn_weights": True}
    return given | dict(zip(_NAMES, args, strict=False)) | dict(kwargs)


def _odd(given: dict[str, Any]) -> str:
    odd = [n for n in ("bias_k", "bias_v", "static_k", "static_v") if given.get(n) is not None]
    return odd[0] if odd else "added zeros" if given.get("add_zero_attn") else ""


def _multihead(given: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Projections, heads, softmax, output (torch.nn.functional.multi_head_attention_forward: (T, N, D) or (T, D))."""
    query, key, value, heads = given["query"], given["key"], given["value"], given["num_heads"]
    alone = query.dim() == 2
    if alone:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
    weights, bias = _projections(given)
    signals = (a.transpose(0, 1) for a in (query, key, value))  # images first, so that each has its part of the biases
    q, k, v = (F.linear(a, w, b) for a, w, b in zip(signals, weights, bias, strict=True))
    (n, t, d), s = q.shape, k.shape[1]
    size = d // heads
    q, k, v = (a.reshape(n, -1, heads, size).transpose(1, 2) for a in (q, k, v))
    mask = _mask(given, n, heads, t, s, q)
    dropped = float(given.get("dropout_p") or 0.0) if given["training"] else 0.0
    if given["need_weights"]:
        score = q @ k.transpose(-2, -1) * size**-0.5
        share = (score if mask is None else score + mask).softmax(-1)
        share = F.dropout(share, dropped) if dropped else share
        out = share @ v
    else:
        share, out = None, F.scaled_dot_product_attention(q, k, v, mask, dropped)
    out = F.linear(out.transpose(1, 2).reshape(n, t, d), given["out_proj_weight"], given["out_proj_bias"]).transpose(0, 1)
    if share is not None:
        share = share.mean(1) if given["average_attn_weights"] else share
        share = share.squeeze(0) if alone else share
    return (out.squeeze(1) if alone else out), share


def _projections(given: dict[str, Any]) -> tuple[list[Tensor], list[Any]]:
    """Weights and biases of queries, keys and values."""
    if given.get("use_separate_proj_weight"):
        weights = [given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    bias = given.get("in_proj_bias")
    return weights, [None] * 3 if bias is None else list(bias.chunk(3))


def _mask(given: dict[str, Any], n: int, heads: int, t: int, s: int, like: Tensor) -> Tensor | None:
    """Both masks of a call as one that is added to the scores (N, heads, T, S); None without any."""
    mask, padding = given.get("attn_mask"), given.get("key_padding_mask")
    if mask is None and given.get("is_causal"):
        mask = torch.ones(t, s, dtype=torch.bool, device=like.device).triu(1)
    total: Tensor | None = None
    for one, shape in ((mask, None), (padding, (n, 1, 1, s))):
        if one is None:
            continue
        added = torch.zeros_like(one, dtype=like.dtype).masked_fill(one, -torch.inf) if one.dtype == torch.bool else one
        added = added.reshape(shape) if shape else added.reshape(n, heads, t, s) if added.dim() == 3 else added
        total = added if total is None else total + added
    return total
