"""A method as a small value: its settings, and how it computes maps of a subject."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError
from torchbcos.attribution.result import Attribution
from torchbcos.attribution.subject import Baseline, Predict, Subject

__all__ = ["Explainer", "Found"]

_M = TypeVar("_M", bound="Explainer")


class Found(NamedTuple):
    """What a method computed.

    Attributes:
        maps: (N, K, *S).
        values: (N, K, C, *S), or None.
        delta: (N, K), or None.
    """

    maps: Tensor
    values: Tensor | None = None
    delta: Tensor | None = None


@dataclass(frozen=True)
class Explainer(ABC):
    """Settings of a method, as a small value.

    With a network, as `IntegratedGradients(model, steps=50)` or `IntegratedGradients(steps=50)(model)`, it has Captum's call:
    `.attribute(x, target=…)`.

    Args:
        model: a network, or a function from a batch to (N, classes).
    """

    model: nn.Module | Predict | None = field(default=None, repr=False, compare=False)

    name: ClassVar[str]  # in `METHODS`
    scales: ClassVar[tuple[str, ...]] = ("live",)  # and "frozen", where held factors give it something to look at

    def __call__(self: _M, model: nn.Module | Predict) -> _M:
        """The same settings, for this network."""
        return dataclasses.replace(self, model=model)

    @abstractmethod
    def compute(self, subject: Subject) -> Found:
        """The maps of a subject. It runs the network through `subject` only, and draws from `subject.generator` only."""

    def attribute(
        self, x: Tensor, target: object = None, *, scales: str = "live", baseline: Baseline = "grey", samples: int | None = None,
        generator: torch.Generator | None = None, batch_size: int | None = None,
    ) -> Tensor:  # fmt: skip
        """One target an image, in Captum's shape: (N, C, *S), or (N, 1, *S) where the method knows no channels.

        Args:
            x: (N, C, *S) as the network takes it.
            target: an int, N ints, or None: the highest output of each image.
            scales, baseline, samples, generator, batch_size: as in `torchbcos.attribute`.

        Raises:
            InputError, StateError, ArgumentTypeError: as `torchbcos.attribute`.
        """
        if self.model is None:
            raise StateError(f"{type(self).__name__} has no network yet: {type(self).__name__}(model).attribute(x, target=…).")
        with torch.inference_mode(False):
            subject = Subject(
                self.model, None, x, target, scales=scales, baseline=baseline, samples=samples, generator=generator,
                batch_size=batch_size,
            )  # fmt: skip
            if subject.count != 1:
                raise InputError("attribute(x, target) takes one target an image; torchbcos.attribute takes (N, K).")
            found = self.run(subject)
        return found.maps if found.values is None else found.values[:, 0]

    def run(self, subject: Subject) -> Attribution:
        """Compute, and say what it took."""
        if subject.scales not in self.scales:
            raise InputError(
                f"{self.name} is defined with scales={self.scales[0]!r} only: held factors give it no other gradient to look at."
            )
        found = self.compute(subject)
        if not bool(found.maps.isfinite().all()):
            at = int((~found.maps.isfinite()).flatten(1).any(1).nonzero()[0])
            raise StateError(
                f"{self.name} gives NaN or infinity for image {at}: numbers of {subject.x.dtype} are too coarse for "
                "it, or a gradient is infinite. Try model.double() and x.double()."
            )
        maps = found.maps.detach().to(torch.promote_types(found.maps.dtype, subject.x.dtype))  # mixed precision leaves halves
        return Attribution(
            self.name, maps, None if found.values is None else found.values.detach(), subject.targets,
            subject.outputs, subject.passes, subject.x, None if found.delta is None else found.delta.detach(),
        )  # fmt: skip
