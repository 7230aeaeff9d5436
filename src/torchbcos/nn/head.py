"""What stands at the ends of a network: the encoding, and the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant
from torchbcos.nn.layer import Layer


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
        return add_constant(x, torch.as_tensor(self.bias, dtype=x.dtype, device=x.device), self, "bias")

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


class Folded(nn.Module):
    """The place of a layer that a deployed twin folded into another: the identity.

    >>> Folded("conv1")(torch.ones(1)), Folded("conv1")
    (tensor([1.]), Folded(into='conv1'))
    """

    def __init__(self, into: str) -> None:
        super().__init__()
        self.into = into

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        return x

    def extra_repr(self) -> str:
        """The layer that took it in."""
        return f"into={self.into!r}"


class AddInverse(nn.Module):
    """Append `1 - x` along the channels: pictures in [0, 1] become the network's input.

    >>> AddInverse()(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 6, 4, 4])
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, 2C, *S)."""
        return functional.add_inverse(x, self.dim)
