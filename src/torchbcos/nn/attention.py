"""Self-attention, linear in its values."""

from __future__ import annotations

from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos.nn.layer import Layer
from torchbcos.nn.linear import BcosLinear
from torchbcos.nn.plain import Linear

__all__ = ["Attention"]


class Attention(Layer):
    """Multi-head self-attention with held queries and keys (arXiv 2306.10898, section 3.4).

    `out(softmax(q kᵀ / sqrt(d)) v)`. Queries, keys and values come from one ordinary linear map
    without bias, also in B-cos networks; the output layer is a B-cos layer.

    Args:
        dim: D of the tokens.
        heads: number of heads.
        head_dim: d of each head.
        norm: applied to the tokens first; None: nothing.
        to_out: maps (..., heads · d) to (..., D); None: a B-cos layer.

    Raises:
        InputError: a size is not positive.

    >>> import torch
    >>> Attention(8, 2, head_dim=4)(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    channel_dim = -1

    def __init__(
        self, dim: int, heads: int, *, head_dim: int = 64, norm: nn.Module | None = None,
        to_out: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(dim, heads, head_dim) < 1:
            raise InputError(f"Sizes must be positive: dim {dim}, {heads} heads, head_dim {head_dim}.")
        self.dim, self.heads, self.head_dim = dim, heads, head_dim
        self.norm = norm
        self.to_qkv = Linear(dim, 3 * heads * head_dim, bias=False)
        self.to_out = BcosLinear(heads * head_dim, dim) if to_out is None else to_out

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, *S, D) to (N, *S, D); every token of an image sees every other."""
        if x.dim() < 3 or x.shape[-1] != self.dim:
            last = " Channels come last in tokens: x.movedim(1, -1)." if x.dim() > 2 and x.shape[1] == self.dim else ""
            raise InputError(f"Expected tokens (N, *S, {self.dim}), got shape {tuple(x.shape)}.{last}")
        tokens = (x if self.norm is None else self.norm(x)).flatten(1, -2)
        parts = self.to_qkv(tokens).unflatten(-1, (3, self.heads, self.head_dim))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(mixed)
        return out.reshape(*x.shape[:-1], out.shape[-1])

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.dim}, heads={self.heads}, head_dim={self.head_dim}"
