"""What stands at the end of a network: pooling and logits."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.frozen import add_constant
from torchbcos.functional.numbers import check_finite, check_positive
from torchbcos.nn.layer import Layer

__all__ = ["GlobalAveragePool", "Logits"]


class Logits(Layer):
    """Divide by a temperature and add a fixed bias: `x / T + bias` (arXiv 2306.10898, section 3.2).

    Args:
        bias: added to every logit; a named constant of explanations. None: no bias.
        temperature: T > 0, or None.

    Raises:
        InputError: a number is out of range.

    >>> Logits(bias=-1.0, temperature=2.0)(torch.tensor([[4.0]]))
    tensor([[1.]])
    """

    def __init__(self, bias: float | None = None, temperature: float | None = None) -> None:
        super().__init__()
        self.bias, self.temperature = bias, temperature
        self._check()

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, classes) to (N, classes)."""
        self._check()
        if self.temperature is not None:
            x = x / self.temperature
        if self.bias is None:
            return x
        return add_constant(x, torch.as_tensor(self.bias, dtype=x.dtype, device=x.device), "bias", fixed=True)

    def _check(self) -> None:
        """Raise InputError for a temperature or a bias out of range; both may be set at any time."""
        check_positive(self.temperature, "temperature")
        check_finite(self.bias, "bias")

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
