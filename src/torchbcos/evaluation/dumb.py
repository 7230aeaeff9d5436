"""Maps that no network made: whoever does not beat them says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos.metrics.grids import compose_grids

__all__ = ["DUMB", "Dumb"]

_LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601
_SIGMA = 0.25  # of the centre's Gaussian, in sides of a cell


class _Function(Protocol):
    def __call__(self, pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor: ...


@dataclass(frozen=True)
class Dumb:
    """A method without a network.

    Attributes:
        name: as `compare(methods=…)` takes it.
        summary: one sentence.
        function: pixels (N, C, H, W) in [0, 1] -> maps (N, H, W). `cells`: pictures along one side of a grid; `seed`: of what is
            drawn.
    """

    name: str
    summary: str
    function: _Function


def _uniform(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    return torch.ones_like(pixels[:, 0])


def _random(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    drawn = torch.rand(pixels.shape[2:], generator=torch.Generator().manual_seed(seed))
    return drawn.to(pixels).expand(len(pixels), -1, -1)


def _centre(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    height, width = (side // cells for side in pixels.shape[2:])
    rows, columns = ((torch.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    bell = torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * _SIGMA**2))
    whole = compose_grids(bell.expand(1, cells * cells, 1, -1, -1), cells)[0]
    return whole.to(pixels).expand(len(pixels), -1, -1)


def _brightness(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    return _luma(pixels)


def _edges(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    kernel = pixels.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    both = torch.stack([kernel, kernel.T])[:, None]
    padded = F.pad(_luma(pixels)[:, None], (1, 1, 1, 1), mode="replicate")
    found: Tensor = F.conv2d(padded, both).square().sum(1).sqrt()
    return found


def _luma(pixels: Tensor) -> Tensor:
    """(N, H, W): ITU-R BT.601 of colours, the mean of other channels."""
    if pixels.shape[1] != 3:
        return pixels.mean(1)
    return torch.einsum("nchw,c->nhw", pixels, pixels.new_tensor(_LUMA))


DUMB: Mapping[str, Dumb] = MappingProxyType({
    one.name: one
    for one in (
        Dumb("uniform", "The same everywhere.", _uniform),
        Dumb("random", "Drawn once, the same for every picture.", _random),
        Dumb("centre", "A Gaussian in the middle of the picture, or of each cell of a grid; σ: a quarter of the side.", _centre),
        Dumb("edges", "Magnitude of the Sobel gradient of brightness.", _edges),
        Dumb("brightness", "Luma of ITU-R BT.601.", _brightness),
    )
})  # fmt: skip
