"""Position embeddings as modules."""

from __future__ import annotations

from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant
from torchbcos.functional.numbers import check_positive
from torchbcos.functional.position import sin_cos_2d
from torchbcos.nn.layer import Layer

__all__ = ["SinCosPosition2d"]


class SinCosPosition2d(Layer):
    """Add a fixed embedding of row and column to every token; a named constant of explanations.

    The table is made for the grid that comes, so any picture size works and nothing is stored.

    Args:
        dim: D, divisible by 4.
        temperature: 1 over the lowest frequency.

    Raises:
        InputError: D is not divisible by 4, or the temperature is not positive.

    >>> import torch
    >>> SinCosPosition2d(8)(torch.zeros(2, 14, 14, 8)).shape
    torch.Size([2, 14, 14, 8])
    """

    channel_dim = -1

    def __init__(self, dim: int, *, temperature: float = 10000.0) -> None:
        super().__init__()
        if dim < 4 or dim % 4:
            raise InputError(f"A position embedding needs a dim divisible by 4, not {dim}.")
        check_positive(temperature, "temperature")
        self.dim, self.temperature = dim, temperature

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, H, W, D) to (N, H, W, D)."""
        if x.dim() != 4 or x.shape[-1] != self.dim:
            last = " Channels come last in tokens: x.movedim(1, -1)." if x.dim() > 2 and x.shape[1] == self.dim else ""
            raise InputError(f"Expected tokens (N, H, W, {self.dim}), got shape {tuple(x.shape)}.{last}")
        table = sin_cos_2d(x.shape[1], x.shape[2], self.dim, temperature=self.temperature, dtype=x.dtype, device=x.device)
        return add_constant(x, table, "position")

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.dim}"
