"""Maps of any method for pictures, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError
from torchbcos._core.names import hint
from torchbcos.attribution import Attribution, Explainer
from torchbcos.attribution.call import attribute_through
from torchbcos.zoo.asked import Asked
from torchbcos.zoo.probe import one_sentence

__all__ = ["Walk"]

_OPTIONS = ("scales", "baseline", "samples", "generator")


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise ArgumentTypeError for an option that `attribute` does not have."""
    for name in options:
        if name not in _OPTIONS:
            raise ArgumentTypeError(f"attribute has no argument {name!r}.{hint(name, _OPTIONS)}")


@dataclass
class Walk:
    """One method over batches of pictures: every batch draws the same random numbers, as if all were one.

    Attributes:
        model, prepare: the network, and what normalises its pixels.
        asked: the targets.
        method, top_k, options: as `torchbcos.attribute` takes them.
        start: pictures so far.
    """

    model: nn.Module
    prepare: nn.Module | None
    asked: Asked
    method: str | Explainer
    top_k: int
    options: Mapping[str, Any]
    start: int = 0

    def __post_init__(self) -> None:
        _check_options(self.options)
        generator = self.options.get("generator")
        self._drawn_from = None if generator is None else generator.get_state()

    def batch(self, x: Tensor, *, last: bool) -> Attribution:
        """The maps of the next pictures (N, C, *S)."""
        rows = self.asked.rows(self.start, len(x), alone=last and self.start == 0 and len(x) == 1)
        if self._drawn_from is not None:
            self.options["generator"].set_state(self._drawn_from)
        with one_sentence(x):
            found = attribute_through(self.model, self.prepare, x, rows, method=self.method, top_k=self.top_k, **self.options)
        self.start += len(x)
        return found
