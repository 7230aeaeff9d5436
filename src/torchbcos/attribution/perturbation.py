"""Methods that cover parts of the picture, and look at what becomes of the output: occlusion and RISE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.numbers import positive_integer
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.checks import inside
from torchbcos.attribution.record import Method
from torchbcos.attribution.subject import Subject

__all__ = ["Occlusion", "RECORDS", "Rise", "asked", "by", "each", "like", "mixed", "space_of", "values_of"]

_ALL = (slice(None), slice(None))  # images, and channels or targets
_PIXELS = 32 * 224 * 224  # of the masks that are added up together


@dataclass(frozen=True)
class Occlusion(Explainer):
    """How far the output falls when a window of the picture is covered (Zeiler and Fergus 2014, arXiv 1311.2901, section 3.2).

    A window covers all channels of a pixel at once, with the `baseline`. The last window of an axis is moved back to the
    border, so that all windows have one size; a pixel has the mean drop of the windows that cover it.

    Args:
        window: pixels, one number or one an axis; None: a seventh of each axis (32 of 224).
        stride: pixels from one window to the next, at most `window`; None: half a window.
        spread: a window's drop is shared out among its pixels, and pixels add their shares up, as the official B-cos code does;
            sums over a region then grow with the number of windows that cover it.

    >>> net = lambda x: x.flatten(1).sum(1, keepdim=True)
    >>> Occlusion(net, window=2, stride=2).attribute(torch.ones(1, 1, 4, 4), target=0, baseline=0.0)[0, 0, 0]
    tensor([4., 4., 4., 4.])
    """

    name: ClassVar[str] = "occlusion"
    _: KW_ONLY
    window: int | Sequence[int] | None = None
    stride: int | Sequence[int] | None = None
    spread: bool = False

    def compute(self, subject: Subject) -> Found:
        """One pass for each window, shared by all targets, and one for the picture."""
        places = _windows(space_of(subject), self.window, self.stride)
        x, base = subject.x, subject.baseline

        def covered(j: int) -> Tensor:
            point = x.clone()
            point[_ALL + places[j]] = base[_ALL + places[j]]
            return point

        drops = like(x, values_of(subject).unsqueeze(2) - asked(subject, covered, len(places)))
        maps = drops.new_zeros(len(x), subject.count, *x.shape[2:])
        times = drops.new_zeros(x.shape[2:])
        for place, drop in zip(places, drops.unbind(2), strict=True):
            maps[_ALL + place] += drop.view(*drop.shape, *(1,) * times.dim())
            times[place] += 1
        return Found(maps / (times[places[0]].numel() if self.spread else times))


@dataclass(frozen=True)
class Rise(Explainer):
    """RISE: which pixels are there when the output is high (Petsiuk, Das, Saenko 2018, arXiv 1806.07421, section 3).

    `1 / (N E[M]) · Σ_j f(x ⊙ M_j + b ⊙ (1 - M_j)) M_j` for random smooth masks: coarse grids of zeros and ones, enlarged
    linearly and shifted at random. Masks mix the picture with the `baseline` (the paper's is 0); all images and targets share
    them.

    Args:
        masks: how many; `samples` of `attribute` overrides it. The paper takes 4,000 to 8,000.
        cells: of the coarse grid along an axis, one number or one an axis.
        probability: that a cell shows the picture.
        centred: `f - mean f` instead of f: pixels that do not matter are near 0 instead of near the mean output, and a constant
            network has a map of zeros. False: as in the paper.

    >>> Rise(lambda x: x.flatten(1), masks=10).attribute(torch.rand(2, 3, 5, 4), target=0).shape
    torch.Size([2, 1, 5, 4])
    """

    name: ClassVar[str] = "rise"
    _: KW_ONLY
    masks: int = 1000
    cells: int | Sequence[int] = 8
    probability: float = 0.5
    centred: bool = True

    def compute(self, subject: Subject) -> Found:
        """One pass for each mask, shared by all targets, and one for the picture."""
        count = subject.samples or positive_integer(self.masks)
        if count is None:
            raise InputError(f"masks must be a positive integer, not {self.masks!r}.")
        share = inside(self.probability, "probability")
        mask = _drawn(subject, count, each(self.cells, space_of(subject), "cells"), share)
        x, base = subject.x, subject.baseline
        found = asked(subject, lambda j: mixed(base, x, mask(j)), count)
        weights = like(x, (found - found.mean(2, keepdim=True) if self.centred else found) / (count * share))
        return Found(_weighted(mask, weights, x.shape[2:]))


def asked(subject: Subject, make: Callable[[int], Tensor], count: int) -> Tensor:
    """(N, K, count) in float64, in main memory: what the targets become in the changed copies `make(j)`.

    Raises:
        StateError: the network gives NaN or infinity for one of them.
    """
    found = torch.cat([part for _, part in subject.scores(make, count)]).cpu().to(torch.float64).permute(1, 2, 0).contiguous()
    if not bool(found.isfinite().all()):
        raise StateError(
            "The network's outputs are not finite (NaN or infinity) where parts of the picture are covered: try another baseline."
        )
    return found


def values_of(subject: Subject) -> Tensor:
    """(N, K) in float64, in main memory: the outputs of the untouched pictures."""
    return subject.values.cpu().to(torch.float64)


def like(x: Tensor, found: Tensor) -> Tensor:
    """On the device of x, in float32, or in float64 where x is."""
    return found.to(x.device, torch.float64 if x.dtype == torch.float64 else torch.float32)


def _exactly(x: Tensor) -> torch.autocast:
    """Inside this block the arithmetic of masks keeps its dtype, whatever the network runs in."""
    return torch.autocast(x.device.type, enabled=False)


def mixed(base: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The picture where `mask` (*S or (N, 1, *S)) is 1, the baseline where it is 0: exactly."""
    return torch.lerp(base, x, mask.to(x.dtype))


def space_of(subject: Subject) -> tuple[int, ...]:
    """The sizes *S of the picture.

    Raises:
        InputError: there is none.
    """
    space = tuple(subject.x.shape[2:])
    if not space:
        raise InputError("This method covers places of a picture, and (N, C) inputs have none: give (N, C, *S).")
    return space


def each(value: object, space: Sequence[int], name: str) -> tuple[int, ...]:
    """One positive integer an axis.

    Raises:
        InputError: they are not, or not as many.
    """
    given = [value] * len(space) if isinstance(value, int) or not isinstance(value, Sequence) else list(value)
    found = tuple(n for n in map(positive_integer, given) if n is not None)
    if len(found) != len(given) or isinstance(value, str):
        raise InputError(f"{name} must be a positive integer, or one an axis, not {value!r}.")
    if len(found) != len(space):
        raise InputError(f"{name}={value!r} has {len(found)} numbers, and the picture {len(space)} axes.")
    return found


# -- occlusion ---------------------------------------------------------------------------------------------------------


def _windows(space: tuple[int, ...], window: object, stride: object) -> list[tuple[slice, ...]]:
    """Every window: one slice an axis."""
    sizes = tuple(max(1, round(size / 7)) for size in space) if window is None else each(window, space, "window")
    if any(w > size for w, size in zip(sizes, space, strict=True)):
        raise InputError(f"A window of {by(sizes)} is larger than the picture of {by(space)}.")
    steps = tuple(max(1, w // 2) for w in sizes) if stride is None else each(stride, space, "stride")
    if any(step > w for step, w in zip(steps, sizes, strict=True)):
        raise InputError(f"A stride of {by(steps)} leaves pixels out that no window of {by(sizes)} covers: at most the window.")
    axes = [
        [slice(start, start + w) for start in _starts(size, w, step)] for size, w, step in zip(space, sizes, steps, strict=True)
    ]
    return list(itertools.product(*axes))


def _starts(size: int, window: int, step: int) -> list[int]:
    """Where windows begin; the last one ends at the border."""
    last = size - window
    return [*range(0, last, step), last]


def by(sizes: Sequence[int]) -> str:
    """Sizes in words."""
    return " x ".join(map(str, sizes))


# -- RISE --------------------------------------------------------------------------------------------------------------


def _drawn(subject: Subject, count: int, cells: tuple[int, ...], share: float) -> Callable[[int], Tensor]:
    """Number of a mask -> (*S) in [0, 1]: only coarse grids and shifts are kept, so memory does not grow with the masks."""
    space, x, draws = subject.x.shape[2:], subject.x, subject.generator
    cells = tuple(min(c, size) for c, size in zip(cells, space, strict=True))  # at most one a pixel
    grids = like(x, torch.rand(count, *cells, generator=draws, device=draws.device) < share)
    widths = [-(-size // c) for size, c in zip(space, cells, strict=True)]
    shifts = torch.stack([torch.randint(w, (count,), generator=draws, device=draws.device) for w in widths], 1).tolist()
    tables = [like(x, _enlarging(c, (c + 1) * w)) for c, w in zip(cells, widths, strict=True)]

    def mask(j: int) -> Tensor:
        found = grids[j]
        with _exactly(x):
            for table, shift, size in zip(tables, shifts[j], space, strict=True):  # each goes from the first axis to the last
                found = torch.tensordot(found, table[shift : shift + size], ([0], [1]))
        return found.clamp_(0, 1)

    return mask


def _enlarging(cells: int, size: int) -> Tensor:
    """(size, cells): what `cells` numbers become when they are enlarged linearly to `size`, centres of pixels on centres."""
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    return (1 - (at[:, None] - torch.arange(cells, dtype=torch.float64)).abs()).clamp(min=0)


def _weighted(mask: Callable[[int], Tensor], weights: Tensor, space: Sequence[int]) -> Tensor:
    """`Σ_j weights[…, j] · mask(j)` (N, K, *S) of weights (N, K, count): the same bits whatever other maps are beside it."""
    n, targets, count = weights.shape
    together = max(1, _PIXELS // math.prod(space))
    total: Tensor | None = None
    for start in range(0, count, together):
        masks = torch.stack([mask(j).flatten() for j in range(start, min(start + together, count))])
        rows = weights[..., start : start + together].reshape(n * targets, -1)
        with _exactly(masks):
            found = torch.stack([row.clone() @ masks for row in rows])  # one by one, at the start of their memory: the same bits
        total = found if total is None else total + found
    assert total is not None
    return total.reshape(n, targets, *space)


RECORDS = (
    Method(
        Occlusion, "perturbation", "How far the output falls when a window is covered.", True, "", True, "any network",
        "windows + 1", lambda s, k: len(_windows(tuple(s[2:]), None, None)) + 1, "Zeiler and Fergus 2014, arXiv 1311.2901",
        "twin, closed form, Captum",
    ),
    Method(
        Rise, "perturbation", "Which pixels are shown when the output is high.", True, "", True, "any network", "1,000 + 1",
        lambda s, k: 1001, "Petsiuk et al. 2018, arXiv 1806.07421", "twin, closed form",
    ),
)  # fmt: skip
