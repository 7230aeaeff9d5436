"""DiFull and DiPart: networks on grids of which it is known where evidence may lie (Rao et al. 2022, arXiv 2205.10435).

In DiFull every cell goes through the whole network alone: a method that finds evidence elsewhere is wrong. In DiPart the features
are those of the whole grid, and only pooling and classifier are a cell's own: evidence elsewhere lies at most half a receptive
field away. Both are networks, so that any method runs on them; `torchbcos.metrics.grid_pointing` scores its maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos.models.network import Network

__all__ = ["GridNetwork", "cell_targets", "difull", "dipart"]

_LAYOUTS = {"NCHW": (2, 3), "NHWC": (1, 2)}
_ASKING: ContextVar[object] = ContextVar("torchbcos_asking_for_features", default=None)


@runtime_checkable
class _TwoHalves(Protocol):
    """Networks of torchbcos and of timm."""

    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward_head(self, x: Tensor) -> Tensor: ...


def difull(model: nn.Module, n: int, *, features: str | None = None, layout: str | None = None) -> GridNetwork:
    """A network on grids of n x n pictures in which every cell goes through `model` alone.

    Args:
        model: any network from pictures to logits (N, classes). It is used, not copied.
        n: cells along one side.
        features, layout: as in `dipart`; here they only serve methods that look at feature maps (Grad-CAM). A network that is
            not known to have two halves does without.

    Returns:
        A network from grids (N, C, n·H, n·W) to (N, n²·classes): class c of cell k is column k·classes + c, cells counted row by
        row (`cell_targets`). Every gradient method scores 1 on it in grid pointing.

    Raises:
        ArgumentTypeError: `model` is no module.
        InputError: n is no positive integer, or there is no module of that name.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> difull(net, 2)(torch.rand(1, 3, 4, 4)).shape
    torch.Size([1, 20])
    """
    _check_module(model)
    return GridNetwork(model, n, _halves_of(model, features), axes=_axes(model, layout), alone=True)


def dipart(model: nn.Module, n: int, *, features: str | None = None, layout: str | None = None) -> GridNetwork:
    """A network on grids of n x n pictures whose features are those of the whole grid, and pooling and classifier a cell's own.

    Args:
        model: a network of torchbcos or timm (`forward_features` and `forward_head`), or any other with `features`. It is used,
            not copied.
        n: cells along one side.
        features: name of the module whose output is the last feature map: "layer4" of torchvision's ResNets, "features" of its
            other CNNs. What comes after it in `model` is the head.
        layout: "NCHW" or "NHWC": axes of that feature map. None: as the network says, else "NCHW".

    Returns:
        A network as `difull` gives it.

    Raises:
        ArgumentTypeError: `model` is no module.
        InputError: n is no positive integer, `features` is needed, or there is no module of that name.

    >>> net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> dipart(net, 2, features="0")(torch.rand(1, 3, 4, 4)).shape
    torch.Size([1, 20])
    """
    _check_module(model)
    if (halves := _halves_of(model, features)) is None:
        raise InputError(
            f"{type(model).__name__} does not say where its features end (forward_features, forward_head): name the module that "
            'gives the last feature map, dipart(model, n, features="layer4") for a ResNet of torchvision.'
        )
    return GridNetwork(model, n, halves, axes=_axes(model, layout), alone=False)


def cell_targets(labels: Tensor, classes: int) -> Tensor:
    """The outputs of a `GridNetwork` that belong to the classes of its cells.

    Args:
        labels: (G, n²) int64: the class of every cell, row by row.
        classes: of the network on one picture.

    Returns:
        (G, n²) int64: targets for `explain` and `attribute`.

    >>> cell_targets(torch.tensor([[3, 0, 1, 1]]), 10)
    tensor([[ 3, 10, 21, 31]])
    """
    if not isinstance(labels, Tensor):
        raise ArgumentTypeError(f"labels are a tensor (G, n²) of classes, not {type(labels).__name__}.")
    if labels.dim() != 2 or labels.is_floating_point() or labels.dtype == torch.bool or positive_integer(classes) is None:
        raise InputError(
            f"Expected labels (G, n²) of int64 and how many classes there are, not {tuple(labels.shape)} of {labels.dtype} and "
            f"{classes!r}."
        )
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise InputError(f"Labels go from {int(labels.min())} to {int(labels.max())}, and there are {classes} classes.")
    return labels + torch.arange(labels.shape[1], device=labels.device) * classes


class GridNetwork(nn.Module):
    """A network on grids with a classifier for each cell; `difull` and `dipart` make it.

    Attributes:
        model: the network on one picture.
        n: cells along one side.
        features: the module whose output is the feature map of the grid: in DiPart that of the whole grid, in DiFull those of
            its cells, side by side. It does not run where a network is used as a whole, or has no map.
        feature_layer: its name, for methods that look at a feature map (`torchbcos.attribution`): heads run once a cell, and
            the output of such a layer is one cell's.
    """

    feature_layer = "features"

    def __init__(self, model: nn.Module, n: int, halves: _Halves | None, *, axes: tuple[int, int], alone: bool) -> None:
        super().__init__()
        count = positive_integer(n)
        if count is None:
            raise InputError(f"n is how many cells stand along one side of a grid, a positive integer, not {n!r}.")
        self.model, self.n, self.alone = model, count, alone
        self.features = _SideBySide(axes)
        self._halves = halves
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids (N, C, n·H, n·W) to (N, n²·classes)."""
        cells = _cut(x, self.n, (2, 3), "A grid")
        if self._halves is None:
            return _joined([self.model(cell) for cell in cells])
        found = [self._halves.features(part) for part in (cells if self.alone else [x])]
        if not self.alone or all(map(_is_map, found)):
            found = _cut(self.features(found), self.n, self.features.axes, "The feature map of a grid")
        return _joined([self._halves.head(part, cell) for part, cell in zip(found, cells, strict=True)])


class _SideBySide(nn.Module):
    """Feature maps of cells as that of a grid; that of a grid as it is. A module, so that methods find its output."""

    def __init__(self, axes: tuple[int, int]) -> None:
        super().__init__()
        self.axes = axes
        self.channel_dim = 1 if axes == _LAYOUTS["NCHW"] else -1

    def forward(self, found: list[Tensor]) -> Tensor:
        """One map, or n² of them, row by row, to one."""
        for one in found:
            if not _is_map(one):
                got = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise StateError(
                    f"The features of a grid must be a map (N, C, h, w) or (N, h, w, C) that can be cut into cells, not {got}: "
                    "tokens in one row cannot. Only difull is defined for this network."
                )
        n = math.isqrt(len(found))
        rows = [torch.cat(found[start : start + n], self.axes[1]) if n > 1 else found[start] for start in range(0, len(found), n)]
        return torch.cat(rows, self.axes[0]) if n > 1 else rows[0].clone()


def _joined(logits: list[Tensor]) -> Tensor:
    for one in logits:
        if not isinstance(one, Tensor) or one.dim() != 2:
            got = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
            raise StateError(f"The network must give logits (N, classes), not {got}: wrap one that gives more.")
    return torch.cat(logits, 1)


def _is_map(found: object) -> bool:
    return isinstance(found, Tensor) and found.dim() == 4


class _Halves(Protocol):
    """A network cut in two."""

    def features(self, x: Tensor) -> Tensor: ...

    def head(self, found: Tensor, cell: Tensor) -> Tensor: ...


class _Said:
    """The halves that a network has itself."""

    def __init__(self, model: _TwoHalves) -> None:
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        return self.model.forward_features(x)

    def head(self, found: Tensor, cell: Tensor) -> Tensor:
        return self.model.forward_head(found)


class _Named:
    """The halves before and after the output of a module: it is caught, or replaced, while the whole network runs."""

    def __init__(self, model: nn.Module, name: str) -> None:
        modules = dict(model.named_modules())
        if not isinstance(name, str) or name not in modules or not name:
            raise InputError(f"The network has no module {name!r}.{hint(str(name), modules)}")
        self.model, self.name, self.part = model, name, modules[name]

    def features(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with _hook(self.part, lambda found: seen.append(found)):
            self.model(x)
        if len(seen) != 1:
            raise StateError(
                f"The module {self.name!r} runs {len(seen)} times in one pass, not once: it does not end the features."
            )
        return seen[0]

    def head(self, found: Tensor, cell: Tensor) -> Tensor:
        with _hook(self.part, lambda _: found):
            out: Tensor = self.model(cell)
        return out


@contextmanager
def _hook(part: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """While this block runs, `act` sees, and may replace, what `part` gives; not in other threads that use the same network."""
    here = object()
    token = _ASKING.set(here)
    handle = part.register_forward_hook(lambda _module, _given, found: act(found) if _ASKING.get() is here else None)
    try:
        yield
    finally:
        handle.remove()
        _ASKING.reset(token)


def _halves_of(model: nn.Module, features: str | None) -> _Halves | None:
    if features is not None:
        return _Named(model, features)
    return _Said(model) if isinstance(model, _TwoHalves) else None


def _axes(model: nn.Module, layout: str | None) -> tuple[int, int]:
    """The axes of height and width of the last feature map."""
    if layout is not None and layout not in _LAYOUTS:
        raise InputError(f"layout is 'NCHW' or 'NHWC', not {layout!r}.{hint(str(layout), _LAYOUTS)}")
    last = isinstance(model, Network) and model.channel_dim == -1
    return _LAYOUTS[layout or ("NHWC" if last else "NCHW")]


def _cut(x: Tensor, n: int, axes: tuple[int, int], what: str) -> list[Tensor]:
    """n² equal parts, row by row."""
    if not isinstance(x, Tensor) or x.dim() != 4:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{what} is a tensor of four axes, not {got}.")
    height, width = (x.shape[axis] for axis in axes)
    if height % n or width % n:
        raise InputError(
            f"{what} of {height} x {width} cannot be cut into {n} x {n} equal cells: both sides must be multiples of {n}. Choose "
            "pictures whose sides are multiples of the network's stride."
        )
    return [cell for row in x.chunk(n, axes[0]) for cell in row.chunk(n, axes[1])]


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"Expected a torch.nn.Module, not {type(model).__name__}: of a Classifier, give clf.model.")
