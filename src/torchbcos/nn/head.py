"""What stands at the end of a network: pooling and logits."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant
from torchbcos.nn.layer import Layer

__all__ = ["GlobalAveragePool", "Logits"]


class Logits(Layer):
    """Divide by a temperature and add a fixed bias: `x / T + bias` (arXiv 2306.10898, section 3.2).

    Args:
        bias: added to every logit; a named constant of explanations. None: no bias.
        temperature: T, or None.

    >>> Logits(bias=-1.0, temperature=2.0)(torch.tensor([[4.0]]))
    tensor([[1.]])
    """

    def __init__(self, bias: float | None = None, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None and not temperature > 0:
            raise InputError(f"temperature must be positive, not {temperature!r}.")
        self.bias, self.temperature = bias, temperature

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, classes) to (N, classes)."""
        if self.temperature is not None:
            x = x / self.temperature
        if self.bias is None:
            return x
        return add_constant(x, torch.as_tensor(self.bias, dtype=x.dtype, device=x.device), "bias", fixed=True)

    def extra_repr(self) -> str:
        """Bias and temperature."""
        return f"bias={self.bias}, temperature={self.temperature}"


class GlobalAveragePool(Layer):
    """Mean over all space axes: (N, C, *S) to (N, C).

    >>> GlobalAveragePool()(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3])
    """

    def compute(self, x: Tensor) -> Tensor:
        """Average (N, C, *S)."""
        return x.flatten(2).mean(2)
