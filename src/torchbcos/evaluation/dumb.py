"""Maps without a network, and numbers that are known beforehand: a method that is no better than these says nothing.

All functions are called alike, `function(pixels, cells=n, seed=0)`, so that a comparison can run them beside methods; those that
need no cells or no seed ignore them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import integer, positive_integer, real
from torchbcos.metrics import METRICS
from torchbcos.metrics.pointing import grid_lines

__all__ = ["DUMB", "Dumb", "brightness", "centre", "edges", "lines", "random", "uniform"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, by which Pillow makes a picture grey
_SPREAD = 4  # σ of the Gaussian is the side of a cell by this


@dataclass(frozen=True)
class Dumb:
    """A map in which there is no network.

    Attributes:
        name: as a comparison calls it.
        summary: one sentence: what the map shows.
        function: (N, C, H, W) pixels, `cells=1`, `seed=0` -> (N, H, W).
    """

    name: str
    summary: str
    function: Callable[..., Tensor]


def uniform(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    """The same evidence everywhere: 1.

    Args:
        pixels: (N, C, H, W): their size alone matters.
        cells: n of a grid of n x n pictures; not needed here.
        seed: not needed here.

    Returns:
        (N, H, W), of the pixels' dtype (float32 of whole numbers) and on their device, as all maps here.

    Raises:
        ArgumentTypeError: the pixels are no tensor.
        InputError: they have another shape, or numbers that are not finite; cells are no positive integer or do not divide the
            sides.

    >>> uniform(torch.rand(1, 3, 2, 2))
    tensor([[[1., 1.],
             [1., 1.]]])
    """
    return torch.ones_like(_checked(pixels, cells)[:, 0])


def random(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    """Noise between 0 and 1, and the same for every picture of a size: it knows neither network nor picture.

    Args:
        pixels: (N, C, H, W): their size alone matters.
        cells: n of a grid of n x n pictures; not needed here.
        seed: of its own generator.

    Returns:
        (N, H, W).

    >>> first, second = random(torch.rand(2, 3, 8, 8))
    >>> torch.equal(first, second), torch.equal(first, random(torch.rand(1, 3, 8, 8), seed=1)[0])
    (True, False)
    """
    pixels = _checked(pixels, cells)
    number = integer(seed)
    if number is None:
        raise InputError(f"seed is a whole number, not {seed!r}.")
    noise = torch.rand(pixels.shape[2:], generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return noise.to(pixels).expand(len(pixels), -1, -1).clone()


def centre(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    """A Gaussian around the middle, of every cell of a grid, with σ a quarter of its side: photographers centre their objects.

    Args:
        pixels: (N, C, H, W): their size alone matters.
        cells: n of a grid of n x n pictures, each with its own middle.
        seed: not needed here.

    Returns:
        (N, H, W), at most 1.

    >>> centre(torch.rand(1, 3, 3, 3))[0, 1]
    tensor([0.4111, 1.0000, 0.4111])
    """
    pixels = _checked(pixels, cells)
    rows, columns = (_bell(pixels.shape[axis] // cells, pixels).repeat(cells) for axis in (2, 3))
    return rows.outer(columns).expand(len(pixels), -1, -1).clone()


def edges(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    """Edges of the picture: length of the gradient of its brightness, by Sobel's two kernels, within every cell of a grid.

    Around a picture, and around each cell, stand its own outermost pixels again: its frame is no edge, and neither is a border
    between two pictures.

    Args:
        pixels: (N, C, H, W) in [0, 1], as of `brightness`.
        cells: n of a grid of n x n pictures.
        seed: not needed here.

    Returns:
        (N, H, W), at least 0.

    >>> edges(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]))
    tensor([[[0., 4., 4., 0.]]])
    """
    grey = _grey(_checked(pixels, cells))
    n, height, width = grey.shape
    h, w = height // cells, width // cells
    parts = grey.view(n, cells, h, cells, w).transpose(2, 3).reshape(-1, 1, h, w)
    across, down = _sobel(parts), _sobel(parts.mT).mT
    return torch.hypot(across, down).view(n, cells, cells, h, w).transpose(2, 3).reshape(n, height, width)


def brightness(pixels: Tensor, *, cells: int = 1, seed: int = 0) -> Tensor:
    """How bright the picture is: 0.299 r + 0.587 g + 0.114 b.

    Args:
        pixels: (N, C, H, W) in [0, 1]. Three channels are red, green and blue. Six are the same with their inverse, as B-cos
            networks take them (`add_inverse`). Of any other channels the mean is taken.
        cells: n of a grid of n x n pictures; not needed here.
        seed: not needed here.

    Returns:
        (N, H, W).

    >>> brightness(torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1))
    tensor([[[0.5925]]])
    """
    return _grey(_checked(pixels, cells))


DUMB: Mapping[str, Dumb] = MappingProxyType({
    one.name: one
    for one in (
        Dumb("uniform", "The same everywhere.", uniform),
        Dumb("random", "Noise, the same for every picture.", random),
        Dumb("centre", "A Gaussian around the middle of the picture, or of every cell; σ is a quarter of the side.", centre),
        Dumb("edges", "The edges of the picture (Sobel).", edges),
        Dumb("brightness", "How bright the picture is.", brightness),
    )
})  # fmt: skip


def lines(
    metric: str,
    settings: Mapping[str, object] | None = None,
    *,
    cell: int | None = None,
    area: float | None = None,
    pixels: int | None = None,
    classes: int | None = None,
) -> dict[str, float]:
    """What maps that are known beforehand get in a metric: lines to draw beside its numbers.

    "oracle": the best map there is. "uniform": the same everywhere. "random": noise, on average over pictures. "even oracle": a
    map that fills its cell evenly, on average over cells: what smoothing leaves of 1. Others say what they are. A line that is
    not known without the network (of deletion, say) is not there.

    Args:
        metric: in `METRICS`.
        settings: it is called with: "n", "smooth", "inside" and "kernel" of grids, "threshold" and "tolerance" of objects, "kind"
            of maps that are compared.
        cell: side of a cell of the grid, in pixels; without it there is no "even oracle".
        area: mean share of the picture that the objects cover.
        pixels: of a map.
        classes: of the network.

    Returns:
        Name of a line -> its number; empty where none is known.

    Raises:
        InputError: the metric is unknown, or a number is impossible.

    >>> lines("grid-pointing", {"n": 2})
    {'oracle': 1.0, 'uniform': 0.25, 'random': 0.25}
    >>> round(lines("grid-pointing", {"n": 2, "smooth": 15}, cell=224)["even oracle"], 5)
    0.98326
    >>> lines("energy-pointing", area=0.2)
    {'oracle': 1.0, 'uniform': 0.2, 'random': 0.2}
    """
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric!r}.{hint(str(metric), METRICS)}")
    given = dict(settings or {})
    if metric in _GRIDS:
        return _of_grids(metric, given, cell)
    if metric in _OBJECTS:
        return _of_objects(metric, given, _share(area))
    many, kinds = (None if one is None else _count(one, name) for one, name in ((pixels, "pixels"), (classes, "classes")))
    if metric == "gini":
        return {"uniform": 0.0} | ({} if many is None else {"one pixel": 1 - 1 / many})
    if metric == "entropy":
        return {"one pixel": 0.0} | ({} if many is None else {"uniform": math.log(many)})
    if metric == "accuracy":
        return {"oracle": 100.0} | ({} if kinds is None else {"by chance": 100 / kinds})
    return dict(_KNOWN.get(metric, {}))


_GRIDS, _OBJECTS = ("grid-pointing", "difull", "dipart"), ("energy-pointing", "map-iou", "pointing-hit")
_KNOWN: Mapping[str, Mapping[str, float]] = {
    "single-deletion": {"oracle": 1.0, "random": 0.0}, "idsds": {"oracle": 1.0, "random": 0.0},
    "sensitivity-n": {"oracle": 1.0, "random": 0.0}, "road": {"random": 0.0},
    "infidelity": {"exact weights of a linear network": 0.0}, "residual": {"exact": 0.0},
    "max-sensitivity": {"ignores the picture": 0.0}, "randomisation": {"ignores the network": 1.0},
    "label-sensitivity": {"ignores the class": 1.0}, "agreement": {"the same maps": 1.0}, "funnybirds": {"oracle": 1.0},
}  # fmt: skip


def _of_grids(metric: str, settings: Mapping[str, object], cell: int | None) -> dict[str, float]:
    n = settings.get("n", 2)
    smooth, kernel = settings.get("smooth", 1), settings.get("kernel", "average")
    inside = settings.get("inside", False) is True
    # the lines but "even oracle" know no size, and one pixel a cell is the quickest
    known = grid_lines(n, 1 if cell is None else cell, smooth=smooth, inside=inside, kernel=str(kernel))  # type: ignore[arg-type]
    found = {"oracle": known.oracle, "uniform": known.uniform, "random": known.uniform}
    if cell is not None and smooth != 1 and not inside:
        found["even oracle"] = float(known.even_oracle.mean())
    return found | ({"any gradient": 1.0} if metric == "difull" else {})


def _of_objects(metric: str, settings: Mapping[str, object], area: float | None) -> dict[str, float]:
    found = {"oracle": 1.0}
    if area is None:
        return found
    if metric == "energy-pointing":
        return found | {"uniform": area, "random": area}
    if metric == "map-iou":  # every pixel of an even map is high, or equally so
        return found | {"uniform": area}
    return found if settings.get("tolerance", 0) else found | {"uniform": area, "random": area}


def _share(area: object) -> float | None:
    if area is None:
        return None
    found = real(area)
    if found is None or not 0 <= found <= 1:
        raise InputError(f"area is the share of a picture, from 0 to 1, not {area!r}.")
    return found


def _count(number: object, name: str) -> int:
    found = positive_integer(number)
    if found is None:
        raise InputError(f"{name} must be a positive integer, not {number!r}.")
    return found


def _checked(pixels: object, cells: object) -> Tensor:
    """(N, C, H, W), floating point."""
    if not isinstance(pixels, Tensor):
        raise ArgumentTypeError(f"pixels must be a tensor (N, C, H, W), not {type(pixels).__name__}.")
    if pixels.dim() != 4 or not pixels.numel() or pixels.is_complex():
        raise InputError(f"pixels must be pictures (N, C, H, W) of real numbers, not {tuple(pixels.shape)} of {pixels.dtype}.")
    n = _count(cells, "cells")
    if pixels.shape[2] % n or pixels.shape[3] % n:
        raise InputError(f"A picture of {pixels.shape[2]} x {pixels.shape[3]} pixels cannot be cut into {n} x {n} equal cells.")
    pixels = pixels.detach()
    pixels = pixels if pixels.dtype in (torch.float32, torch.float64) else pixels.float()
    if not bool(pixels.isfinite().all()):
        first = int((~pixels.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"Picture {first} has numbers that are not finite (NaN or infinity).")
    return pixels


def _grey(pixels: Tensor) -> Tensor:
    """(N, H, W)."""
    if pixels.shape[1] == 6 and bool(((pixels[:, :3] + pixels[:, 3:] - 1).abs() < 1e-4).all()):
        pixels = pixels[:, :3]
    if pixels.shape[1] != 3:
        return pixels.mean(1)
    return (pixels * pixels.new_tensor(_LUMA).view(3, 1, 1)).sum(1)


def _bell(side: int, like: Tensor) -> Tensor:
    """A Gaussian around the middle of an axis."""
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return torch.exp(-(at**2) / (2 * (side / _SPREAD) ** 2)).to(like)


def _sobel(parts: Tensor) -> Tensor:
    """The change along the last axis of parts (M, 1, h, w), weighted 1, 2, 1 along the other."""
    wide = F.pad(parts, (1, 1, 1, 1), mode="replicate")
    change = wide[..., 2:] - wide[..., :-2]
    return change[..., :-2, :] + 2 * change[..., 1:-1, :] + change[..., 2:, :]
