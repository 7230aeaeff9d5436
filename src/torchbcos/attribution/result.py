"""What a method gives: maps of every target, and how far to believe them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Attribution"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps of N images and K targets.

    Attributes:
        method: its name in `METHODS`.
        maps: (N, K, *S) one number a pixel: what a metric takes, as `maps[:, k]`.
        values: (N, K, C, *S) one number for every channel, where the method has them; else None.
        targets: (N, K) int64.
        outputs: (N, classes) of the untouched images.
        passes: forward and backward passes for one image with all its targets.
        delta: (N, K) what the maps lack of the sum that the method promises; None where it promises none. A method that promises
            one and misses it by much was misused, or had too few steps.
    """

    method: str
    maps: Tensor
    values: Tensor | None
    targets: Tensor
    outputs: Tensor
    passes: int
    delta: Tensor | None = None

    def __len__(self) -> int:
        """N.

        >>> import torch
        >>> x, none = torch.rand(2, 1, 4, 4), torch.zeros(2, 1, dtype=torch.long)
        >>> len(Attribution("saliency", x, None, none, torch.rand(2, 3), 2))
        2
        """
        return len(self.maps)

    def __repr__(self) -> str:
        n, k, *space = self.maps.shape
        return (
            f"Attribution({self.method!r}: maps of {n} images, {k} targets, {' x '.join(map(str, space))}; {self.passes} passes)"
        )
