"""The grid pointing game: of the positive evidence for the class of one cell, how much lies in that cell."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.wide import scaled

__all__ = ["KERNELS", "METRICS", "GridLines", "grid_lift", "grid_lines", "grid_pointing", "check_n", "positive"]

KERNELS = ("average", "gaussian")
_LONGEST = 2**26
_ROUNDING = 64  # times the smallest step between numbers, of a mean of numbers below 2


def grid_pointing(
    maps: Tensor, cells: Tensor, *, n: int, smooth: int = 1, inside: bool = False, kernel: str = "average"
) -> Tensor:
    """Share of the positive evidence that lies in a class's own cell: `L = Σ_{p in cell} A⁺(p) / Σ_p A⁺(p)`.

    CoDA-Nets (arXiv 2104.00032), eq. 11. A map is smoothed before its negative part is cut, as in the published code.

    Args:
        maps: (N, H, W), signed: what speaks for the class of one cell of a grid of n x n pictures. Both sides are multiples of n.
        cells: (N,) integers: that cell, counted row by row from 0 at the top left. `own_cells` counts column by column, too.
        n: cells along one side.
        smooth: k, odd, in pixels: each pixel becomes the mean of k x k. 1: nothing is smoothed. Around the picture stand zeros,
            and evidence leaks over the borders of cells, so that the best map there is scores less than 1 (`grid_lines`).
        inside: smooth every cell alone, so that nothing leaks.
        kernel: "average", or "gaussian": a Gaussian of k pixels, σ = k/4.

    Returns:
        (N,) in [0, 1], of the dtype of the maps; NaN where a map has no positive evidence. An even map gets 1/n².

    Raises:
        ArgumentTypeError: maps or cells are no tensor.
        InputError: a map is not finite; a cell is not in 0 … n² - 1; n does not divide a side; `smooth` is even.

    >>> maps = torch.tensor([[[3.0, 1.0], [0.0, -9.0]], [[0.0, 0.0], [-1.0, 0.0]]])
    >>> grid_pointing(maps, torch.tensor([0, 0]), n=2)
    tensor([0.7500,    nan])
    """
    maps = check_maps(maps)
    n = check_n(n)
    if not isinstance(inside, bool):
        raise InputError(f"inside is True (every cell is smoothed alone) or False, not {inside!r}.")
    size = _cell_size(maps, n)
    cells = _check_cells(cells, len(maps), n).to(maps.device)
    k = _check_smooth(smooth, kernel)
    parts = scaled(maps)
    if inside:
        parts = _smoothed(_cut(parts, n, size).flatten(0, 1), k, kernel).view(len(maps), n * n, *size)
    else:
        parts = _cut(_smoothed(parts, k, kernel), n, size)
    if k > 1:  # what cancels leaves rounding, which is no evidence
        parts = torch.where(parts.abs() > _ROUNDING * torch.finfo(parts.dtype).eps, parts, 0.0)
    masses = parts.clamp_min(0).sum((2, 3))
    total = masses.sum(1)
    share = masses.gather(1, cells[:, None]).squeeze(1) / total
    return torch.where(total > 0, share, math.nan).to(maps.dtype)


class GridLines(NamedTuple):
    """What to draw beside scores of `grid_pointing`.

    Attributes:
        oracle: 1, the score of a map with all its evidence in its cell, as long as nothing is smoothed over borders.
        uniform: 1/n², the score of an even map.
        even_oracle: (n²,) the score, in each cell, of a map that fills this cell evenly: what smoothing leaves of 1.
    """

    oracle: float
    uniform: float
    even_oracle: Tensor


def grid_lines(n: int, size: int, *, smooth: int = 1, inside: bool = False, kernel: str = "average") -> GridLines:
    """The scores of three maps that know nothing of a network: they belong beside every score of `grid_pointing`.

    Args:
        n: cells along one side.
        size: side of one cell, in pixels.
        smooth, inside, kernel: as in `grid_pointing`.

    >>> [round(float(score), 5) for score in grid_lines(2, 224, smooth=15).even_oracle]
    [0.98326, 0.98326, 0.98326, 0.98326]
    """
    n = check_n(n)
    if (pixels := positive_integer(size)) is None:
        raise InputError(f"size is the side of one cell in pixels, a positive integer, not {size!r}.")
    k = _check_smooth(smooth, kernel)
    if n * n * pixels > _LONGEST:
        raise InputError(f"A grid of {n} x {n} cells of {pixels} pixels is larger than any picture.")
    along = torch.ones(n, dtype=torch.float64)
    if not inside:  # both kernels are products of one along each axis, and so is the score
        row = torch.eye(n, dtype=torch.float64).repeat_interleave(pixels, 1)
        masses = F.conv1d(row[:, None], _line(k, kernel, row).view(1, 1, k), padding=k // 2)[:, 0].view(n, n, pixels).sum(2)
        along = masses.diagonal() / masses.sum(1)
    return GridLines(1.0, 1 / n**2, along.outer(along).flatten())


def grid_lift(values: Tensor, n: int) -> Tensor:
    """How far a score lies above that of an even map: `(L - 1/n²) / (1 - 1/n²)`, 1 for the oracle, 0 for an even map.

    Args:
        values: scores of `grid_pointing`, of any shape.
        n: cells along one side, at least 2.

    >>> grid_lift(torch.tensor([1.0, 0.25, 0.0]), 2)
    tensor([ 1.0000,  0.0000, -0.3333])
    """
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"values are a tensor of scores, not {type(values).__name__}.")
    if check_n(n) == 1:
        raise InputError("A grid of one cell has no lift: every map scores 1 there. n is at least 2.")
    return (values - 1 / n**2) / (1 - 1 / n**2)


def check_n(n: object) -> int:
    """Cells along one side, as an int.

    Raises:
        InputError: it is no positive integer.
    """
    found = positive_integer(n)
    if found is None:
        raise InputError(f"n is how many cells stand along one side of a grid, a positive integer, not {n!r}.")
    return found


def _check_smooth(smooth: object, kernel: str) -> int:
    """Pixels of a kernel, as an int.

    Raises:
        InputError: they are no odd number, or the kernel is unknown.
    """
    k = positive_integer(smooth)
    if k is None or k % 2 == 0:
        raise InputError(
            f"smooth is an odd number of pixels, 1 for none, not {smooth!r}: an even window has no middle and moves the map."
        )
    if kernel not in KERNELS:
        raise InputError(f"kernel is 'average' or 'gaussian', not {kernel!r}.{hint(str(kernel), KERNELS)}")
    return k


def positive(maps: Tensor) -> Tensor:
    """The positive part of maps in float64, each scaled by a power of two."""
    return scaled(maps).clamp_min(0)


def _smoothed(maps: Tensor, k: int, kernel: str) -> Tensor:
    """(M, H, W), each pixel the weighted mean of k x k; zeros stand around the picture."""
    if k == 1:
        return maps
    if kernel == "average":  # along one axis, then along the other: the same, and k/2 times faster
        rows = F.avg_pool2d(maps[:, None], (1, k), stride=1, padding=(0, k // 2))
        return F.avg_pool2d(rows, (k, 1), stride=1, padding=(k // 2, 0))[:, 0]
    height, width = maps.shape[1:]
    return _gaussian(maps, height, k) @ maps @ _gaussian(maps, width, k)


def _gaussian(maps: Tensor, size: int, k: int) -> Tensor:
    """(size, size) weights between the pixels of one axis: convolutions with long kernels are slow in float64."""
    line = F.pad(_line(k, "gaussian", maps), (size, size))
    at = torch.arange(size, device=maps.device)
    return line[(at[:, None] - at + k // 2 + size).clamp(0, len(line) - 1)]


def _line(k: int, kernel: str, like: Tensor) -> Tensor:
    """(k,) weights along one axis."""
    if kernel == "average":
        return like.new_full((k,), 1 / k)
    line = torch.exp(-((torch.arange(k, dtype=like.dtype, device=like.device) - k // 2) ** 2) / (2 * (k / 4) ** 2))
    return line / line.sum()


def _cut(maps: Tensor, n: int, size: tuple[int, int]) -> Tensor:
    """(N, n·h, n·w) -> (N, n², h, w), row by row."""
    h, w = size
    return maps.view(len(maps), n, h, n, w).transpose(2, 3).reshape(len(maps), n * n, h, w)


def _cell_size(maps: Tensor, n: int) -> tuple[int, int]:
    if maps.dim() != 3:
        raise InputError(f"Maps of grids are (N, H, W), not {tuple(maps.shape)}.")
    height, width = maps.shape[1:]
    if height % n or width % n:
        raise InputError(
            f"Maps of {height} x {width} pixels cannot be cut into {n} x {n} equal cells: both sides must be multiples of {n}. "
            "Were the maps resized, or is n another?"
        )
    return height // n, width // n


def _check_cells(cells: object, count: int, n: int) -> Tensor:
    if not isinstance(cells, Tensor):
        raise ArgumentTypeError(f"cells must be a tensor (N,) of integers, not {type(cells).__name__}: torch.tensor(cells).")
    if cells.is_floating_point() or cells.is_complex() or cells.dtype == torch.bool:
        raise InputError(f"cells are numbers of cells, int64, not {cells.dtype}: use cells.long().")
    if cells.shape != (count,):
        raise InputError(f"cells must be ({count},), one own cell a map, not {tuple(cells.shape)}.")
    low, high = int(cells.min()), int(cells.max())
    if low < 0 or high >= n * n:
        raise InputError(f"A cell is {low if low < 0 else high}, and a grid of {n} x {n} has the cells 0 to {n * n - 1}.")
    return cells.long()


_PAPER = "CoDA-Nets, arXiv 2104.00032, eq. 11"
_BLIND = "saturates; punishes evidence that two pictures share; depends on which pictures are sure"

METRICS = (
    Metric(
        "grid-pointing", grid_pointing,
        "Share of the positive evidence for a picture's class that lies in this picture's cell of a grid.",
        best="high", range="[0, 1]; even map 1/n²", needs="grids", cost="0", source=_PAPER,
        verified="twin, closed forms, official code (B-cos v2), Attribution-Evaluation",
        blind=f"{_BLIND}; smoothing leaks over the borders of cells.",
    ),
    Metric(
        "difull", grid_pointing,
        "Grid pointing where every cell goes through the network alone: nothing else is connected, and evidence there is wrong.",
        best="high", range="[0, 1]; even map 1/n², any gradient 1", needs="grids, the model", cost="0",
        source="Rao et al. 2022, arXiv 2205.10435, section 3.1", verified="twin (cells alone), closed form: gradients score 1",
        blind="every method that is a gradient scores exactly 1: it finds faults of methods, and ranks no two right ones.",
    ),
    Metric(
        "dipart", grid_pointing,
        "Grid pointing where features are those of the whole grid, and pooling and classifier are a cell's own.",
        best="high", range="[0, 1]; even map 1/n²", needs="grids, a network of features and head", cost="0",
        source="Rao et al. 2022, arXiv 2205.10435, section 3.1",
        verified="twin (by hand), closed form: nothing beyond the receptive field",
        blind="only evidence within half a receptive field of a border can be in the wrong cell.",
    ),
)  # fmt: skip
