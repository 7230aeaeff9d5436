"""What a deployed twin leaves where a folded layer was."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Folded"]


class Folded(nn.Module):
    """The place of a layer that a deployed twin folded into another: the identity.

    >>> import torch
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
