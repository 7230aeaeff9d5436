"""Fixed position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.functional.numbers import check_positive

__all__ = ["sin_cos_2d"]


def sin_cos_2d(
    height: int, width: int, dim: int, *, temperature: float = 10000.0, dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:  # fmt: skip
    """Sines and cosines of column and row: `[sin ωx, cos ωx, sin ωy, cos ωy]` (Beyer et al. 2022, arXiv 2205.01580).

    The frequencies are `ω_i = temperature^(-i / (D/4 - 1))` for i = 0 … D/4 - 1.

    Args:
        height, width: of the grid of tokens; any size.
        dim: D, divisible by 4.
        temperature: 1 over the lowest frequency.
        dtype, device: of the result; float16 and bfloat16 are computed in float32.

    Returns:
        (height, width, D).

    Raises:
        InputError: a size or the temperature is not positive, or D is not divisible by 4.

    >>> sin_cos_2d(14, 14, 192).shape
    torch.Size([14, 14, 192])
    """
    if dim < 4 or dim % 4 or min(height, width) < 1:
        raise InputError(
            f"A position embedding needs a dim divisible by 4 and a grid of at least 1 x 1, not dim {dim} and {height} x {width}."
        )
    check_positive(temperature, "temperature")
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    steps = torch.arange(dim // 4, dtype=wide, device=device) / max(1, dim // 4 - 1)
    omega = temperature**-steps
    x = torch.arange(width, dtype=wide, device=device)[:, None] * omega
    y = torch.arange(height, dtype=wide, device=device)[:, None] * omega
    columns = torch.cat([x.sin(), x.cos()], 1).expand(height, width, dim // 2)
    rows = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(height, width, dim // 2)
    return torch.cat([columns, rows], 2).to(dtype)
