"""A row of layers with a path around it."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Residual"]


class Residual(nn.Sequential):
    """A row of layers whose output is added to its input: `x + layers(x)` (He et al. 2016, arXiv 1512.03385, equation 1).

    Args:
        *args: as `torch.nn.Sequential` takes them; they keep the shape of their input.

    >>> import torch
    >>> Residual(nn.Identity())(torch.ones(2))
    tensor([2., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to one of the same shape."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y
