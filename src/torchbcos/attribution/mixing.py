"""The attention matrices of one forward pass: of this thread, and with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import StateError
from torchbcos.attribution.own_mode import OwnMode
from torchbcos.kinds.rules.attention import written_out

__all__ = ["Mixing", "attend", "by_image"]

_SOFTMAX = frozenset((F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax))


class Mixing(OwnMode):
    """While it is entered, attention of this thread is computed in the open, and its matrices are kept.

    Fused attention and `torch.nn.MultiheadAttention` give their numbers by plain operations; attention that a network writes
    out itself is known by its softmax over the last of two equal axes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one function; keep what it gives where that is an attention matrix."""
        kwargs = kwargs or {}
        if not self.own:  # a call inside this one, in a hook, has its own
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            value, shares = attend(*args, **kwargs)
            self.found.append(shares)
            return value
        if func is F.multi_head_attention_forward:
            with self:
                return written_out(args, kwargs)
        value = func(*args, **kwargs)
        if func in _SOFTMAX and _is_matrix(value, *args[1:2], **kwargs):
            self.found.append(value)
        return value

    def matrices(self, n: int) -> list[Tensor]:
        """Of every layer, as the network made them: (n, heads, T, T) or (n · heads, T, T), which `by_image` reads.

        Args:
            n: images.

        Raises:
            StateError: there are none, or they mix something else than all tokens of an image.
        """
        if not self.found:
            raise StateError(
                "This network has no attention that could be read (no softmax over tokens): take a method for any network, "
                "such as grad_cam or input_x_gradient."
            )
        for shares in self.found:
            _check(shares, n)
        sizes = sorted({shares.shape[-1] for shares in self.found})
        if len(sizes) > 1:
            raise StateError(
                f"The layers of this network mix different tokens ({' and '.join(map(str, sizes[:4]))} of them): attention "
                "cannot be followed through layers that merge tokens. Take grad_cam, or the inherent explanation."
            )
        return self.found


def by_image(shares: Tensor, n: int) -> Tensor:
    """(n, heads, T, T) of a matrix, or of its gradient."""
    return shares.reshape(n, -1, *shares.shape[-2:])


def _is_matrix(value: Tensor, dim: object = None, **_: object) -> bool:
    square = value.dim() > 2 and value.shape[-1] == value.shape[-2]
    return square and dim in (-1, value.dim() - 1)


def _check(shares: Tensor, n: int) -> None:
    """Raise StateError unless all tokens of an image are mixed."""
    if shares.shape[-1] != shares.shape[-2]:
        raise StateError(
            f"This network has an attention of {shares.shape[-2]} over {shares.shape[-1]} tokens (it pools, or has fewer keys "
            "than queries): attention cannot be followed through it. Take grad_cam, or the inherent explanation."
        )
    if (shares.dim() == 4 and len(shares) != n) or shares.dim() > 4 or len(shares) % n:
        raise StateError(
            "Attention of this network stays within windows (as Swin's does), so no layer mixes all tokens of an image, and its "
            "matrices cannot be multiplied. Take grad_cam, or the inherent explanation."
        )


def attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`torch.nn.functional.scaled_dot_product_attention` by plain operations: its value, and the matrix.

    >>> q = torch.rand(1, 2, 3, 4)
    >>> value, shares = attend(q, q, q, is_causal=True)
    >>> torch.allclose(value, F.scaled_dot_product_attention(q, q, q, is_causal=True), atol=1e-6), shares.shape
    (True, torch.Size([1, 2, 3, 3]))
    """
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    shares = scores.softmax(-1)
    return (F.dropout(shares, dropout_p) if dropout_p else shares) @ value, shares
