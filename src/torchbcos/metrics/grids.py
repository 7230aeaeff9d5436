"""Grids of pictures for the pointing game: which pictures, how they are put together, and maps of windows of them."""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer, real
from torchbcos._core.probability import PROBABILITIES, SIGMOID
from torchbcos.functional.replace import replacement
from torchbcos.metrics.passes import own_generator
from torchbcos.metrics.pointing import check_n

__all__ = ["ORDERS", "choose_grids", "compose_grids", "odds_of", "own_cells", "window_maps"]

ORDERS = ("row", "column")
_OFFICIAL_SEED = 42


def choose_grids(
    logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    n: int,
    *,
    confidence: float = 0.5,
    probability: str | Sequence[str] = SIGMOID,
    limit: int | None = None,
    generator: torch.Generator | None = None,
    legacy: bool = False,
) -> Tensor:
    """Choose pictures for grids: n² of different classes each, the surest first, and no picture twice.

    A picture may be used if it is classified rightly and its class is more probable than `confidence`. The classes of a grid
    are drawn at random; as many grids come out as the pictures allow.

    Args:
        logits: (N, C); or a list of them, one for each network that is compared: pictures must do for all.
        labels: (N,) int64 classes.
        n: cells along one side.
        confidence: in [0, 1). 0: every picture that is classified rightly.
        probability: "sigmoid" or "softmax": how the network was trained; or a list, one for each network.
        limit: at most so many grids; there is a warning where the pictures do not allow them.
        generator: what classes are drawn from. None: a fresh one with seed 0.
        legacy: as the official code does it: classes are drawn as there (with seed 42), until n² classes are left, and one
            picture is lost after each grid, so that classes of neighbouring draws meet.

    Returns:
        (G, n²) int64: rows of `labels`, in the order in which `compose_grids` sets them.

    Raises:
        InputError: too few classes have a picture that may be used; the message says how many are needed.

    >>> logits = 4 * torch.eye(4).repeat(6, 1)
    >>> grids = choose_grids(logits, torch.arange(4).repeat(6), 2)
    >>> grids.shape, len(grids.unique())
    (torch.Size([6, 4]), 24)
    """
    n = check_n(n)
    many = None if limit is None else positive_integer(limit)
    if many is None and limit is not None:
        raise InputError(f"limit is how many grids there are at most, a positive integer or None, not {limit!r}.")
    least = real(confidence)
    if least is None or not 0 <= least < 1:
        raise InputError(f"confidence is a probability in [0, 1) that must be exceeded, not {confidence!r}.")
    pools = _pools(logits, labels, least, probability)
    needed = n * n + bool(legacy)
    if len(pools) < needed:
        raise InputError(
            f"Grids of {n} x {n} need {needed} classes with a picture that is classified rightly and surer than {least:g}; "
            f"there are {len(pools)} of {len(set(labels.tolist()))} classes: give more pictures, a smaller n or less confidence."
        )
    chosen = (_official if legacy else _draw)(pools, n * n, many, generator)
    if many is not None and len(chosen) < many:
        warnings.warn(
            f"The pictures allow {len(chosen)} grids of {n} x {n}, not {many}: {sum(map(len, pools.values()))} of {len(labels)} "
            "may be used, each of them once.",
            UserWarning,
            stacklevel=2,
        )
    return torch.tensor(chosen, dtype=torch.int64).view(-1, n * n)


def _pools(
    logits: Tensor | Sequence[Tensor], labels: Tensor, confidence: float, probability: str | Sequence[str]
) -> dict[int, list[int]]:
    """The pictures of every class that may be used, surest first; classes without any are left out."""
    networks: list[object] = list(logits) if isinstance(logits, (list, tuple)) else [logits]
    kinds: list[object] = list(probability) if isinstance(probability, (list, tuple)) else [probability] * len(networks)
    if not networks or len(kinds) != len(networks):
        raise InputError(f"There are {len(networks)} networks and {len(kinds)} probabilities: one each, or one for all.")
    odds = torch.stack([odds_of(one, labels, kind) for one, kind in zip(networks, kinds, strict=True)]).amin(0)
    least = math.log(confidence / (1 - confidence)) if confidence else -math.inf
    order = odds.sort(descending=True, stable=True).indices
    pools: dict[int, list[int]] = {}
    for image in order[odds[order] > least].tolist():
        pools.setdefault(int(labels[image]), []).append(image)
    return dict(sorted(pools.items()))


def odds_of(logits: object, labels: Tensor, kind: object) -> Tensor:
    """(N,) logarithm of p / (1 - p) of the right class: exact where p rounds to 1; -inf where another class is higher."""
    values, own = _check_logits(logits, labels, kind).detach().cpu().double(), labels.cpu().long()[:, None]
    right = values.gather(1, own).squeeze(1)
    odds = right if kind == SIGMOID else right - values.scatter(1, own, -math.inf).logsumexp(1)
    return torch.where(values.argmax(1) == own.squeeze(1), odds, -math.inf)


def _check_logits(logits: object, labels: object, kind: object) -> Tensor:
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
        raise ArgumentTypeError(
            f"logits (N, C) and labels (N,) are tensors, not {type(logits).__name__} and {type(labels).__name__}."
        )
    if kind not in PROBABILITIES:
        raise InputError(f"probability is 'sigmoid' or 'softmax', not {kind!r}.{hint(str(kind), PROBABILITIES)}")
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or not logits.numel():
        raise InputError(f"Expected logits (N, C) and labels (N,), not {tuple(logits.shape)} and {tuple(labels.shape)}.")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"Labels are numbers of classes, int64, not {labels.dtype}: use labels.long().")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise InputError(f"Labels go from {int(labels.min())} to {int(labels.max())}, and logits have {logits.shape[1]} classes.")
    if not bool(logits.isfinite().all()):
        raise InputError("Logits are not finite (NaN or infinity): nothing says which pictures are sure.")
    return logits


def _most(counts: Sequence[int], cells: int) -> int:
    """How many grids of `cells` different classes can be made: G, if every class can give at most G pictures.

    >>> _most([40, 40, 40, 40, 40, 40, 40, 40, 32, 32], 4), _most([9, 1, 1, 1], 4), _most([5, 5, 1, 1, 1], 4)
    (96, 1, 1)
    """
    upper = sum(counts) // cells
    return bisect.bisect_left(range(1, upper + 1), True, key=lambda g: sum(min(c, g) for c in counts) < cells * g)


def _draw(pools: dict[int, list[int]], cells: int, limit: int | None, generator: torch.Generator | None) -> list[list[int]]:
    """Random classes for every grid, but those of which more pictures are left than grids, where they could not be used later."""
    generator = own_generator(generator)
    left = {c: list(reversed(images)) for c, images in pools.items()}
    most = _most([len(images) for images in left.values()], cells)
    grids = []
    for rest in range(most if limit is None else min(limit, most), 0, -1):
        classes = [c for c, images in left.items() if images]
        drawn = [classes[i] for i in torch.randperm(len(classes), generator=generator, device=generator.device).tolist()]
        chosen = _with_full(drawn, cells, {c: len(left[c]) for c in drawn}, rest)
        grids.append([left[c].pop() for c in chosen])
    return grids


def _with_full(drawn: list[int], cells: int, counts: dict[int, int], rest: int) -> list[int]:
    """The first `cells` classes, some of them replaced by others where otherwise too few pictures would stay for the rest.

    A class with as many pictures as there are grids to come loses one use with every grid that leaves it out.
    """
    chosen, spare = drawn[:cells], sum(min(count, rest) for count in counts.values()) - cells * rest
    must = [c for c in drawn[cells:] if counts[c] >= rest][spare:]
    for place in reversed(range(cells)):
        if must and counts[chosen[place]] < rest:
            chosen[place] = must.pop()
    return chosen


def _official(pools: dict[int, list[int]], cells: int, limit: int | None, generator: torch.Generator | None) -> list[list[int]]:
    """The official choice: a list of draws, of which grids are read with one picture lost after each (and repeats skipped)."""
    seed = _OFFICIAL_SEED
    if generator is not None:
        generator = own_generator(generator)
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    draws, used, listed = np.random.RandomState(seed), dict.fromkeys(pools, 0), []  # a state of its own, not the global one
    while len(classes := [c for c in pools if used[c] < len(pools[c])]) > cells:
        for c in draws.choice(np.array(classes), size=cells, replace=False).tolist():
            listed.append((c, pools[c][used[c]]))
            used[c] += 1
    grids: list[list[int]] = []
    start = 0
    while limit is None or len(grids) < limit:
        grid: dict[int, int] = {}
        for place in range(start, len(listed)):
            grid.setdefault(*listed[place])
            if len(grid) == cells:
                break
        if len(grid) < cells:  # where the list ends, the official code ends with an IndexError
            break
        grids.append(list(grid.values()))
        start = place + 2
    return grids


def own_cells(n: int, order: str = "row") -> Tensor:
    """(n²,) int64: the cell of the k-th picture of a grid, counted row by row.

    Args:
        n: cells along one side.
        order: "row": pictures are set row by row; "column": column by column, as in the official code.

    >>> own_cells(2), own_cells(2, "column")
    (tensor([0, 1, 2, 3]), tensor([0, 2, 1, 3]))
    """
    n = check_n(n)
    if order not in ORDERS:
        raise InputError(f"order is 'row' or 'column', not {order!r}.{hint(str(order), ORDERS)}")
    cells = torch.arange(n * n).view(n, n)
    return (cells.T if order == "column" else cells).flatten()


def compose_grids(images: Tensor, n: int, *, order: str = "row", rescale: bool = False) -> Tensor:
    """Put n² pictures together to one, for each grid.

    Args:
        images: (G, n², C, H, W), encoded or not: `x[choose_grids(...)]`.
        n: cells along one side.
        order: "row" or "column": in which order pictures are set, see `own_cells`.
        rescale: shrink every picture to H/n x W/n first (bilinear, antialiased), so that the grid is as large as one picture.
            It does not matter whether pictures were encoded before: weights add up to 1.

    Returns:
        (G, C, n·H, n·W); with `rescale` (G, C, H, W).

    Raises:
        InputError: there are not n² pictures a grid, or n does not divide a side that is rescaled.

    >>> compose_grids(torch.arange(4.0).view(1, 4, 1, 1, 1), 2, order="column")[0, 0]
    tensor([[0., 2.],
            [1., 3.]])
    """
    n = check_n(n)
    if not isinstance(images, Tensor) or images.dim() != 5 or images.shape[1] != n * n or not images.numel():
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"Grids of {n} x {n} are made of images (G, {n * n}, C, H, W), not {got}.")
    height, width = images.shape[3:]
    if rescale:
        if height % n or width % n:
            raise InputError(
                f"Pictures of {height} x {width} pixels cannot be shrunk to 1/{n}: both sides must be multiples of {n}."
            )
        if not images.is_floating_point():
            raise InputError(f"Pictures are shrunk as floating point, not as {images.dtype}: divide by 255 first.")
        wide = images.flatten(0, 1).to(torch.promote_types(images.dtype, torch.float32))  # half precision has no such kernel
        small = F.interpolate(wide, (height // n, width // n), mode="bilinear", antialias=True)
        images = small.to(images.dtype).unflatten(0, images.shape[:2])  # type: ignore[no-untyped-call]
    placed = images[:, own_cells(n, order).argsort().to(images.device)]
    g, _, c, h, w = placed.shape
    return placed.reshape(g, n, n, c, h, w).permute(0, 3, 1, 4, 2, 5).reshape(g, c, n * h, n * w)


def window_maps(
    explain: Callable[[Tensor], Tensor],
    grid: Tensor,
    *,
    window: int,
    stride: int,
    replace: str | float | Tensor | Callable[[Tensor], Tensor] = "zero6",
    batch_size: int = 16,
) -> Tensor:
    """Maps of pictures that are larger than a network takes: windows are explained one by one, and their maps are added up.

    The protocol of B-cosification (arXiv 2411.00715) for transformers. The network sees windows and never the grid, so that
    its numbers do not compare with those of networks that see it: never put both into one column.

    Args:
        explain: (M, C, window, window) -> (M, window, window), or (M, K, window, window) for K targets.
        grid: (N, C, H, W); `explain` gets windows of one picture after the other.
        window: side of a window, in pixels.
        stride: from window to window; it divides `window`, so that every pixel lies in as many windows as any other.
        replace: what stands around the picture, `window - stride` pixels wide: "zero6" as published, or a colour ("grey").
        batch_size: windows at once.

    Returns:
        (N, H, W) or (N, K, H, W): sums over the windows, cut to the picture.

    Raises:
        InputError: window and stride do not cover the picture evenly, or `explain` gives maps of another size.

    >>> window_maps(lambda x: x.sum(1), torch.ones(1, 3, 4, 4), window=2, stride=1)[0, 0]
    tensor([12., 12., 12., 12.])
    """
    size, step, batch = _check_windows(grid, window, stride, batch_size)
    if not callable(explain):
        raise ArgumentTypeError(f"explain is a function from windows to maps, not {type(explain).__name__}.")
    pad = size - step
    found = []
    for one in grid.detach().unsqueeze(1):
        padded = F.pad(replacement(one, replace), (pad,) * 4, mode="replicate") if pad else one.clone()
        padded[..., pad : pad + one.shape[2], pad : pad + one.shape[3]] = one
        windows = padded.unfold(2, size, step).unfold(3, size, step)  # (1, C, rows, columns, window, window)
        columns = windows.shape[3]
        flat = windows[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
        maps = torch.cat([_explained(explain, part.contiguous(), size) for part in flat.split(batch)])
        total = maps.new_zeros(*maps.shape[1:-2], *padded.shape[2:])
        for place, part in enumerate(maps):
            y, x = place // columns * step, place % columns * step
            total[..., y : y + size, x : x + size] += part
        found.append(total[..., pad : pad + one.shape[2], pad : pad + one.shape[3]])
    return torch.stack(found)


def _explained(explain: Callable[[Tensor], Tensor], windows: Tensor, size: int) -> Tensor:
    maps = explain(windows)
    if not isinstance(maps, Tensor) or maps.dim() not in (3, 4) or len(maps) != len(windows) or maps.shape[-2:] != (size, size):
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"`explain` gave {got} for {len(windows)} windows: expected ({len(windows)}, [K,] {size}, {size}).")
    return maps.detach()


def _check_windows(grid: object, window: object, stride: object, batch_size: object) -> tuple[int, int, int]:
    if not isinstance(grid, Tensor) or grid.dim() != 4 or not grid.numel():
        raise InputError(
            f"grid must be (N, C, H, W), not {tuple(grid.shape) if isinstance(grid, Tensor) else type(grid).__name__}."
        )
    size, step, batch = positive_integer(window), positive_integer(stride), positive_integer(batch_size)
    if size is None or step is None or batch is None:
        raise InputError(f"window, stride and batch_size are positive integers, not {window!r}, {stride!r} and {batch_size!r}.")
    if size % step or grid.shape[2] % step or grid.shape[3] % step:
        raise InputError(
            f"Windows of {size} pixels every {step} do not cover {grid.shape[2]} x {grid.shape[3]} pixels evenly: the stride "
            "must divide the window and both sides of the picture."
        )
    return size, step, batch
