"""Evidence where it belongs, without labels and masks: pictures of a step become 2×2 grids, and one of each is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.metrics import compose_grids
from torchbcos.training.guidance import TINY, one_class

__all__ = ["Mosaic", "net_share"]

_SIDE = 2  # cells along a side of a grid


def net_share(maps: Tensor, cells: Tensor, smooth: int = 1) -> Tensor:
    """What a cell adds to the logit, net, over the sizes of everything, in [-1, 1]: 1 where all is there, of one sign. (Ours.)

    `Σ_cell c / Σ|c|`, of contributions c averaged over `smooth` x `smooth` pixels, at the border over those that there are.

    Args:
        maps: (G, 2H, 2W) contributions; a side may be odd.
        cells: (G,) the cell of each grid, in rows from 0.
        smooth: an odd number.

    Returns:
        (G,).

    >>> maps = torch.tensor([[[2.0, 1.0], [0.0, -1.0]]])
    >>> float(net_share(maps, torch.tensor([0]))), float(net_share(maps, torch.tensor([3])))
    (0.5, -0.25)
    """
    if smooth > 1:
        maps = F.avg_pool2d(maps[:, None], smooth, 1, smooth // 2, count_include_pad=False)[:, 0]
    for axis in (1, 2):
        if maps.shape[axis] % _SIDE:  # a position in the middle belongs to two cells, half to each
            maps = maps.repeat_interleave(_SIDE, axis)
    height, width = maps.shape[1] // _SIDE, maps.shape[2] // _SIDE
    inside = maps.reshape(-1, _SIDE, height, _SIDE, width).sum((2, 4)).flatten(1).gather(1, cells[:, None])[:, 0]
    return inside / maps.abs().flatten(1).sum(1).clamp_min(TINY)


@dataclass(frozen=True)
class Mosaic:
    """Bring the evidence for a picture in a grid to its cell, and what cancels to nothing. (Ours.)

    Attributes:
        weight: by which it counts.
        share: of the pictures of a step that is put into grids, four to each; at least one grid.
        smooth: pixels along a side over which contributions of the input are averaged first.
        at: the layer whose contributions count; "": the input's.
        order: of the derivative.
    """

    weight: float
    share: float = 0.25
    smooth: int = 7
    at: str = ""
    order: Literal["truncated", True] = True

    def term(self, answer: Any) -> Tensor:
        """Mean of `-log((1 + q) / 2)` with q of `net_share`, for a class that the explained picture has.

        Raises:
            InputError: the examples are no pictures.
        """
        x: Tensor = answer.batch.x
        if x.dim() != 4:
            raise InputError(f"mosaic is for pictures, not for examples of {x.dim() - 2} axes: set mosaic=0.")
        count = _SIDE * _SIDE
        grids = min(len(x) // count, max(1, round(self.share * len(x) / count)))
        if not grids:  # a last step of fewer
            return x.new_zeros(())
        pictures = x[: grids * count].reshape(grids, count, *x.shape[1:])
        cells = torch.randint(count, (grids,), device=x.device)
        classes = one_class(answer.classes)[: grids * count].reshape(grids, count).gather(1, cells[:, None])[:, 0]
        drawn = compose_grids(pictures, _SIDE)
        maps = contribution_maps(answer.network, drawn, classes, wrt=self.at or None, create_graph=self.order)
        shares = net_share(maps, cells, self.smooth if not self.at else 1)
        return ((1 + shares).clamp_min(TINY) / 2).log().mean().neg()
