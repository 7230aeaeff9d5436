"""The input encoding as a module."""

from __future__ import annotations

from torch import Tensor

from torchbcos import functional
from torchbcos.nn.layer import Layer

__all__ = ["AddInverse"]


class AddInverse(Layer):
    """Append `1 - x` along the channels: pictures in [0, 1] become the network's input.

    Inside a network the explained input is x, and the one is a constant of this layer: "inverse".

    >>> import torch
    >>> AddInverse()(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 6, 4, 4])
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, 2C, *S)."""
        return functional.add_inverse(x, self.dim)
