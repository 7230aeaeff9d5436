"""Self-attention, linear in its values."""

from __future__ import annotations

import torch.fx
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.nn.layer import Layer, run_layer
from torchbcos.nn.linear import BcosLinear
from torchbcos.nn.plain import Linear

__all__ = ["Attention", "check_mask"]


class Attention(Layer):
    """Multi-head self-attention with held queries and keys (arXiv 2306.10898, section 3.4).

    `out(softmax(q kᵀ / sqrt(d)) v)`. There, queries, keys and values come from one ordinary linear map without bias, also in
    B-cos networks, and the output layer is a B-cos layer. In B-cos aligned transformers (arXiv 2401.08868) the first map is a
    B-cos layer as well: give it as `to_qkv`.

    Args:
        dim: D of the tokens.
        heads: number of heads.
        head_dim: d of each head.
        norm: applied to the tokens first; None: nothing.
        to_out: maps (..., heads · d) to (..., D); None: a B-cos layer.
        to_qkv: maps (..., D) to (..., 3 · heads · d), queries first; None: an ordinary linear layer without bias.

    Raises:
        InputError: a size is not positive.

    >>> import torch
    >>> Attention(8, 2, head_dim=4)(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    channel_dim = -1

    def __init__(
        self, dim: int, heads: int, *, head_dim: int = 64, norm: nn.Module | None = None,
        to_out: nn.Module | None = None, to_qkv: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(dim, heads, head_dim) < 1:
            raise InputError(f"Sizes must be positive: dim {dim}, {heads} heads, head_dim {head_dim}.")
        self.dim, self.heads, self.head_dim = dim, heads, head_dim
        self.norm = norm
        self.to_qkv = Linear(dim, 3 * heads * head_dim, bias=False) if to_qkv is None else to_qkv
        self.to_out = BcosLinear(heads * head_dim, dim) if to_out is None else to_out

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, *S, D) to (N, *S, D).

        Args:
            x: tokens.
            mask: (N, *S) which tokens are seen, by all of an image: True, or a number from 0. What is masked acts on no token
                but itself, and where nothing is seen the attention is 0. A floating-point mask has a gradient. None: all.
        """
        return run_layer(self, x) if mask is None else run_layer(self, x, mask)

    def compute(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, *S, D) to (N, *S, D); every token of an image sees every other that is not masked."""
        _check_tokens(x, self.dim)
        if mask is not None:
            check_mask(mask, x)
            mask = mask.flatten(1)[:, None, None]
        out = self.mix((x if self.norm is None else self.norm(x)).flatten(1, -2), mask)
        return out.reshape(*x.shape[:-1], out.shape[-1])

    def mix(self, tokens: Tensor, mask: Tensor | None = None, score_bias: Tensor | None = None) -> Tensor:
        """Map tokens (N, T, D), normed, to (N, T, D); mask and score bias as in `functional.attention`."""
        parts = self.to_qkv(tokens).unflatten(-1, (3, self.heads, self.head_dim))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.attention(query, key, value, mask=mask, score_bias=score_bias).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(mixed)
        return out

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.dim}, heads={self.heads}, head_dim={self.head_dim}"


torch.fx.wrap("run_layer")


def check_mask(mask: Tensor, x: Tensor) -> None:
    """Raise BcosError unless a mask has a number for each token of x (N, *S, D)."""
    if not isinstance(mask, Tensor):
        raise ArgumentTypeError(f"A mask is a tensor, not {type(mask).__name__}.")
    if mask.shape != x.shape[:-1]:
        raise InputError(f"Expected a mask of shape {tuple(x.shape[:-1])}, one number a token, got {tuple(mask.shape)}.")


def _check_tokens(x: Tensor, dim: int) -> None:
    """Raise InputError unless x is (N, *S, dim)."""
    if x.dim() < 3 or x.shape[-1] != dim:
        last = " Channels come last in tokens: x.movedim(1, -1)." if x.dim() > 2 and x.shape[1] == dim else ""
        raise InputError(f"Expected tokens (N, *S, {dim}), got shape {tuple(x.shape)}.{last}")
