"""Where the places of a picture are in what a layer gives: (N, C, h, w), (N, h, w, C), or tokens (N, p + h · w, C)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from torchbcos.attribution.capture import Seen

__all__ = ["Layout", "grid_of_tokens", "layout_of"]

_PREFIX = 16  # class tokens and registers that stand before the tokens of places, at most


class Layout(NamedTuple):
    """How to read an output.

    Attributes:
        axis: of channels: 1 or -1.
        prefix: tokens before those of places.
        grid: places along each axis of space.
        images: the axis of images: 0, or 1 where tokens come first.
    """

    axis: int
    prefix: int
    grid: tuple[int, ...]
    images: int = 0

    def places(self, values: Tensor) -> Tensor:
        """(N, C, *grid) of an output, or of its gradient.

        >>> import torch
        >>> Layout(-1, 1, (2, 3)).places(torch.rand(4, 7, 5)).shape
        torch.Size([4, 5, 2, 3])
        """
        values = values.movedim(self.images, 0)
        first = values if self.axis == 1 else values.movedim(-1, 1)
        return first[:, :, self.prefix :].reshape(*first.shape[:2], *self.grid) if first.dim() == 3 else first

    def before(self, values: Tensor) -> Tensor:
        """What stands before the tokens of places; empty where channels come first."""
        return values.movedim(self.images, 0)[:, : self.prefix]


def layout_of(seen: Seen, size: tuple[int, ...], n: int, maps: Sequence[tuple[int, ...]]) -> Layout | None:
    """How the output of a layer is to be read; None where it has no places, or only one.

    Args:
        seen: the layer.
        size: of the picture, along each axis of space.
        n: images.
        maps: shapes of what layers gave before: those of a patch embedding show the grid of its tokens.
    """
    output = seen.output
    if not isinstance(output, Tensor) or output.dim() < 3 or not output.is_floating_point():
        return None
    if len(output) != n:
        return _tokens_first(output, size, n, maps)
    final = getattr(seen.module, "channel_dim", 1) == -1 or seen.last
    tokens = grid_of_tokens(output.shape[1], size, n, maps) if output.dim() == 3 and output.shape[2] > 1 else None
    found = [] if output.dim() != len(size) + 2 else [Layout(1, 0, tuple(output.shape[2:]))]
    if output.dim() == len(size) + 2 and (final or len(size) > 1):  # of a signal only the layer tells which axis is which
        found.append(Layout(-1, 0, tuple(output.shape[1:-1])))
    if tokens is not None and (final or len(size) > 1):
        found = [*found[:1], Layout(-1, *tokens)]
    found = [layout for layout in found if _fits(layout.grid, size)]
    if final:
        found.sort(key=lambda layout: layout.axis)  # one that holds channels last
    exact = [layout for layout in found if _alike(layout.grid, size)]
    uneven = [layout for layout in found if layout.axis == 1 and len(set(layout.grid)) > 1 and not final]  # strides by axis
    return next(iter(exact or uneven), None)


def _tokens_first(output: Tensor, size: tuple[int, ...], n: int, maps: Sequence[tuple[int, ...]]) -> Layout | None:
    """Of (T, N, C), as `torch.nn.TransformerEncoder` has it by default."""
    if output.dim() != 3 or output.shape[1] != n or output.shape[2] < 2:
        return None
    tokens = grid_of_tokens(len(output), size, n, maps)
    return Layout(-1, *tokens, 1) if tokens is not None and _fits(tokens[1], size) and _alike(tokens[1], size) else None


def _fits(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """More than one place, and not more than pixels, but for padding."""
    return math.prod(grid) > 1 and all(g <= s + 2 for g, s in zip(grid, size, strict=True))


def _alike(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether both have the same proportions, of the last two axes: the same stride, the same loss at the border, within one."""
    if len(size) == 1:
        return True
    (g, h), (s, t) = grid[-2:], size[-2:]
    less, more = sorted((abs(s - t) / max(1.0, min(s / g, t / h)), abs(s - t)))
    same = less - 1 <= abs(g - h) <= more + 1 and (g - h) * (s - t) >= 0
    return (same or max(abs(g - h), less) <= 1) and 0.6 < g * t / (h * s) < 1 / 0.6


def grid_of_tokens(
    count: int, size: tuple[int, ...], n: int, maps: Sequence[tuple[int, ...]]
) -> tuple[int, tuple[int, ...]] | None:  # fmt: skip
    """How many tokens stand before those of places, and the grid of the latter: as a patch embedding gave it, or by proportion.

    >>> grid_of_tokens(197, (224, 224), 1, [(1, 192, 14, 14)]), grid_of_tokens(201, (224, 224), 1, [])
    ((1, (14, 14)), (5, (14, 14)))
    """
    grids = []
    for shape in reversed(maps):
        if len(shape) == len(size) + 2 and shape[0] == n:
            both = (shape[2:], shape[1:-1]) if len(size) > 1 else (shape[2:],)
            grids += [grid for grid in both if _fits(grid, size) and _alike(grid, size)]
    known = [(count - math.prod(grid), grid) for grid in grids if 0 <= count - math.prod(grid) <= _PREFIX]
    if known:
        return min(known, key=lambda found: found[0])
    for prefix in range(min(_PREFIX, count - 2) + 1):
        side = (math.prod(size) / (count - prefix)) ** (1 / len(size))
        grid = tuple(round(s / side) for s in size)
        if math.prod(grid) == count - prefix:
            return prefix, grid
    return None
