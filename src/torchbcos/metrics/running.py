"""Metrics with a state: what the functions of this room give for batches, kept until `compute`. Needs torchmetrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos.metrics.cells import idsds, single_deletion
from torchbcos.metrics.completeness import residual
from torchbcos.metrics.complexity import entropy, gini
from torchbcos.metrics.debiased import road
from torchbcos.metrics.deleting import deletion, insertion
from torchbcos.metrics.faithfulness import infidelity, sensitivity_n
from torchbcos.metrics.likeness import agreement, label_sensitivity
from torchbcos.metrics.objects import by_size, energy_pointing, map_iou, mask_fraction, pointing_hit
from torchbcos.metrics.pointing import grid_pointing
from torchbcos.metrics.sanity import randomisation
from torchbcos.metrics.stability import max_sensitivity
from torchbcos.metrics.summing import summary

__all__ = [
    "Agreement", "Deletion", "EnergyPointing", "Entropy", "Gini", "GridPointing", "Idsds", "Infidelity", "Insertion",
    "LabelSensitivity", "MapIoU", "MaxSensitivity", "PointingHit", "Randomisation", "Residual", "Road", "Running", "SensitivityN",
    "SingleDeletion",
]  # fmt: skip

# of torchmetrics.Metric
_OPTIONS = (
    "compute_on_cpu", "compute_with_cache", "dist_sync_fn", "dist_sync_on_step", "distributed_available_fn", "process_group",
    "sync_on_compute",
)  # fmt: skip


class Running(Metric):
    """A metric over many batches and processes: `update` takes what its function takes, `compute` gives its `summary`.

    Numbers of images are kept one by one, in float64 (also where maps are on Apple's chips, which have none: leave the metric
    on the processor), so that percentiles are exact and processes may see different numbers of images.

    Args:
        settings: keyword arguments of the function; those it needs for each batch are given to `update`. `seed` stands for
            `generator`: every batch is measured with the same one, so that no image depends on its batch. Further, what
            `torchmetrics.Metric` takes (sync_on_compute=…).

    Raises:
        InputError: neither the function nor torchmetrics knows a setting.

    >>> metric = Gini()
    >>> metric.update(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    >>> metric.update(torch.tensor([[0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]]))
    >>> found = metric.compute()
    >>> float(found["mean_defined"]), int(found["n"]), int(found["undefined"])
    (0.5, 3, 1)
    """

    full_state_update: bool = False
    is_differentiable: bool = False
    function: ClassVar[Callable[..., Any]]
    usual: ClassVar[dict[str, Any]] = {}  # settings of ours where the function has none
    values: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        options = {name: settings.pop(name) for name in _OPTIONS if name in settings}
        known = _keywords(self.function)
        unknown = next((name for name in settings if name not in known), None)
        if unknown is not None:
            raise InputError(
                f"{type(self).__name__} has no setting {unknown!r}.{hint(unknown, known)} There are {', '.join(known) or 'none'}."
            )
        super().__init__(**options)
        self.settings: dict[str, Any] = {**self.usual, **settings}
        self.set_dtype(torch.float64)  # of what a process sends that had no images, too
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, *given: Any, **named: Any) -> None:
        """Measure a batch: the arguments of the function, and settings of this batch alone.

        Raises:
            ArgumentTypeError: an argument is missing, or there is no such argument.
        """
        self.keep(self.measure(*given, **named))

    def measure(self, *given: Any, **named: Any) -> Tensor:
        """(N,), of one batch; nothing is kept.

        Raises:
            ArgumentTypeError: an argument is missing, or there is no such argument.
        """
        settings = {**self.settings, **named}
        if "seed" in settings:
            settings["generator"] = torch.Generator().manual_seed(settings.pop("seed"))
        try:
            bound = inspect.signature(self.function).bind(*given, **settings)
        except TypeError as error:
            raise ArgumentTypeError(f"{type(self).__name__}.update takes {_arguments(self.function)}: {error}.") from error
        found: Tensor = type(self).function(*bound.args, **bound.kwargs)
        return found

    def keep(self, values: Tensor) -> None:
        """Add numbers of images to the state."""
        self.values.append(self.kept(values))

    def kept(self, values: Tensor | list[Tensor]) -> Tensor:
        """Numbers as they are in a state: of one batch, or all of a state so far (one tensor, once processes were joined)."""
        parts = values if isinstance(values, list) else [values]
        empty = torch.empty(0, dtype=torch.float64, device=self.device)
        return torch.cat([empty, *(part.detach().to(empty) for part in parts)])

    def compute(self) -> dict[str, Tensor]:
        """The `summary` of all images of all processes."""
        return summary(self.kept(self.values))


def _keywords(function: Callable[..., Any]) -> list[str]:
    """What may be set once for all batches: arguments that have a value of their own, and keywords."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.default is not p.empty]
    return ["seed" if name == "generator" else name for name in names]


def _arguments(function: Callable[..., Any]) -> str:
    parameters = inspect.signature(function).parameters.values()
    return f"({', '.join(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)})"


class GridPointing(Running):
    """`grid_pointing` of n x n grids: `update(maps, cells)`. DiFull and DiPart differ in how maps are made, not in this.

    >>> metric = GridPointing(n=2)
    >>> metric.update(torch.ones(1, 4, 4), torch.tensor([0]))
    >>> float(metric.compute()["mean"])
    0.25
    """

    function = staticmethod(grid_pointing)
    usual: ClassVar[dict[str, Any]] = {"n": 2}


class EnergyPointing(Running):
    """`energy_pointing`: `update(maps, masks)`; also the mean area of the objects, and all numbers for bins of sizes.

    Args:
        bins: edges of sizes, in pixels of the masks, as of `by_size`; names of their numbers begin "low-high/".
        settings: as of `Running`.

    >>> metric = EnergyPointing(bins=(0, 2, 9))
    >>> metric.update(torch.ones(2, 2, 2), torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 0]]]))
    >>> found = metric.compute()
    >>> float(found["mean"]), float(found["area"]), float(found["0-2/mean"]), float(found["2-9/mean"])
    (0.375, 0.375, 0.25, 0.5)
    """

    function = staticmethod(energy_pointing)
    sizes: list[Tensor]
    fractions: list[Tensor]

    def __init__(self, *, bins: Sequence[float] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.bins = tuple(float(edge) for edge in bins)
        if self.bins:
            by_size(torch.empty(0), torch.empty(0), self.bins)  # edges that are none are an error now
        for name in ("sizes", "fractions"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Measure a batch of maps (N, H, W) and masks (N, H, W)."""
        self.keep(self.measure(maps, masks))
        self.fractions.append(self.kept(mask_fraction(masks)))
        self.sizes.append(self.kept(masks.flatten(1).sum(1)))

    def compute(self) -> dict[str, Tensor]:
        """The `summary`, "area" (what an even map scores), and both for each bin."""
        values, sizes, fractions = (self.kept(state) for state in (self.values, self.sizes, self.fractions))
        found = {**summary(values), "area": fractions.mean()}
        for one in by_size(values, sizes, self.bins) if self.bins else ():
            inside = {**summary(one.values), "area": fractions[one.images].mean()}
            found |= {f"{one.low:g}-{one.high:g}/{name}": value for name, value in inside.items()}
        return found


class MapIoU(Running):
    """`map_iou`: `update(maps, masks)`."""

    function = staticmethod(map_iou)


class PointingHit(Running):
    """`pointing_hit`: `update(maps, masks)`."""

    function = staticmethod(pointing_hit)


class Deletion(Running):
    """`deletion`: `update(predict, x, maps)`, or with `targets=`."""

    function = staticmethod(deletion)


class Insertion(Running):
    """`insertion`: `update(predict, x, maps)`, or with `targets=`."""

    function = staticmethod(insertion)


class Road(Running):
    """`road`: `update(predict, x, maps)`, or with `targets=`."""

    function = staticmethod(road)


class SensitivityN(Running):
    """`sensitivity_n`: `update(predict, x, maps)`, or with `targets=`; n is given once, or with every batch.

    Of several n an image has the mean of those that are defined.
    """

    function = staticmethod(sensitivity_n)

    def update(self, *given: Any, **named: Any) -> None:
        """Measure a batch: the score, the pictures and the maps."""
        found = self.measure(*given, **named)
        self.keep(found.nanmean(1) if found.dim() > 1 else found)


class Infidelity(Running):
    """`infidelity`: `update(predict, x, weights)`, or with `targets=`."""

    function = staticmethod(infidelity)


class MaxSensitivity(Running):
    """`max_sensitivity`: `update(explain, x)`, or with `targets=`."""

    function = staticmethod(max_sensitivity)


class SingleDeletion(Running):
    """`single_deletion`: `update(predict, x, maps)`, or with `targets=`."""

    function = staticmethod(single_deletion)


class Idsds(Running):
    """`idsds`: `update(predict, x, maps)`, or with `targets=`."""

    function = staticmethod(idsds)


class Residual(Running):
    """`residual`: `update(maps, constants, values)`."""

    function = staticmethod(residual)


class Randomisation(Running):
    """The mean over layers of `randomisation`: `update(maps, randomised)`."""

    function = staticmethod(randomisation)

    def update(self, *given: Any, **named: Any) -> None:
        """Measure a batch: the maps of the trained network, and the layers' names and maps."""
        found: Any = self.measure(*given, **named)
        self.keep(found.mean)


class LabelSensitivity(Running):
    """`label_sensitivity`: `update(maps, others)`."""

    function = staticmethod(label_sensitivity)


class Gini(Running):
    """`gini`: `update(maps)`."""

    function = staticmethod(gini)


class Entropy(Running):
    """`entropy`: `update(maps)`."""

    function = staticmethod(entropy)


class Agreement(Running):
    """`agreement` of two methods: `update(a, b)`."""

    function = staticmethod(agreement)
