"""Self-attention within windows that may be shifted, linear in its values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.functional.numbers import check_whole
from torchbcos.nn.attention import Attention, check_mask

__all__ = ["WindowAttention"]


class WindowAttention(Attention):
    """Attention within windows of M × M tokens, with relative positions (Liu et al. 2021, arXiv 2103.14030, section 3.2).

    `softmax(q kᵀ / sqrt(d) + β) v` among the tokens of a window; β, one learned number for each head and each of the
    (2M - 1)² relative positions, stands inside the softmax and is held with it. With a shift the windows are moved by so many
    tokens down and to the right, cyclically, and tokens that only the cycle brings together do not see each other.

    Cutting, shifting and filling up are permutations and zeros, so the layer is as exact as `Attention`. Sizes that M does not
    divide are filled up with zeros below and at the right; what is filled up is masked (published code lets it take part).

    Args:
        dim: D of the tokens.
        heads: number of heads.
        window: M.
        shift: from 0 to M - 1; along an axis with no more than one window there is none.
        head_dim: d of each head.
        norm, to_out, to_qkv: as in `Attention`.

    Raises:
        InputError: a size is not positive, or the shift is not smaller than the window.

    >>> WindowAttention(8, 2, window=4, shift=2, head_dim=4)(torch.randn(1, 6, 9, 8)).shape
    torch.Size([1, 6, 9, 8])
    """

    def __init__(
        self, dim: int, heads: int, *, window: int = 7, shift: int = 0, head_dim: int = 32, norm: nn.Module | None = None,
        to_out: nn.Module | None = None, to_qkv: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__(dim, heads, head_dim=head_dim, norm=norm, to_out=to_out, to_qkv=to_qkv)
        window, shift = check_whole(window, "window"), check_whole(shift, "shift", least=0)
        if shift >= window:
            raise InputError(f"The shift of a window must be smaller than the window: window {window}, shift {shift}.")
        self.window, self.shift = window, shift
        self.relative_position = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Relative positions begin at 0: all count alike (published code draws them, with a spread of 0.02)."""
        self.relative_position.zero_()

    def compute(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, H, W, D) to (N, H, W, D); mask: (N, H, W), as in `Attention`."""
        if x.dim() != 4 or x.shape[-1] != self.dim:
            last = " Channels come last in tokens: x.movedim(1, -1)." if x.dim() == 4 and x.shape[1] == self.dim else ""
            raise InputError(f"Expected tokens (N, H, W, {self.dim}), got shape {tuple(x.shape)}.{last}")
        if mask is not None:
            check_mask(mask, x)
        (n, height, width, _), m = x.shape, self.window
        below, right = -height % m, -width % m
        down, along = (self.shift if size > m else 0 for size in (height, width))
        x = F.pad(x if self.norm is None else self.norm(x), (0, 0, 0, right, 0, below))
        windows = _cut(x.roll((-down, -along), (1, 2)), m)
        seen = self._seen(mask, (n, height, width), (down, along), x.device)
        out = self.mix(windows, seen, self.score_bias())
        whole = _put_together(out, n, height + below, width + right, m)
        return whole.roll((down, along), (1, 2))[:, :height, :width]

    def score_bias(self) -> Tensor:
        """β (heads, M², M²)."""
        steps = torch.arange(self.window, device=self.relative_position.device)
        place = torch.cartesian_prod(steps, steps).unsqueeze(1) - torch.cartesian_prod(steps, steps) + self.window - 1
        index = place[..., 0] * (2 * self.window - 1) + place[..., 1]
        return self.relative_position[index].permute(2, 0, 1)

    def _seen(
        self, mask: Tensor | None, size: tuple[int, int, int], shift: tuple[int, int], device: torch.device
    ) -> Tensor | None:  # fmt: skip
        """(N · windows, 1, M², M²) or (N · windows, 1, 1, M²): who sees whom; None where all of a window do."""
        n, sides, m = size[0], size[1:], self.window
        filled = [side + -side % m for side in sides]
        if mask is None and not any(shift) and tuple(filled) == sides:
            return None
        keys = torch.ones(n, *sides, dtype=torch.bool, device=device) if mask is None else mask
        keys = F.pad(keys, (0, filled[1] - sides[1], 0, filled[0] - sides[0]))  # zeros: not seen
        keys = _cut(keys.roll((-shift[0], -shift[1]), (1, 2)).unsqueeze(-1), m).transpose(1, 2).unsqueeze(1)
        if not any(shift):
            return keys
        wrapped = [torch.arange(side, device=device) >= side - by for side, by in zip(filled, shift, strict=True)]
        region = 2 * wrapped[0].long()[:, None] + wrapped[1].long()
        region = _cut(region[None, :, :, None], m).squeeze(-1)
        together = (region.unsqueeze(2) == region.unsqueeze(1)).repeat(n, 1, 1).unsqueeze(1)
        return keys & together if keys.dtype == torch.bool else keys * together

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{super().extra_repr()}, window={self.window}, shift={self.shift}"


def _cut(x: Tensor, m: int) -> Tensor:
    """(N, H, W, D) to (N · windows, M², D), the windows of an image row by row."""
    n, height, width, d = x.shape
    return x.reshape(n, height // m, m, width // m, m, d).transpose(2, 3).reshape(-1, m * m, d)


def _put_together(windows: Tensor, n: int, height: int, width: int, m: int) -> Tensor:
    """The way back."""
    parts = windows.reshape(n, height // m, width // m, m, m, windows.shape[-1])
    return parts.transpose(2, 3).reshape(n, height, width, windows.shape[-1])
