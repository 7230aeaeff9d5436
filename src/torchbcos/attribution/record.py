"""What is known of a method: what users read before they believe its maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torchbcos.attribution.base import Explainer

__all__ = ["DIFFERENCE", "Method"]

DIFFERENCE = "f(x) - f(baseline)"  # what a complete method's values sum to


@dataclass(frozen=True)
class Method:
    """One method of `METHODS`.

    Attributes:
        build: its class, which is called without arguments for the usual settings.
        kind: "inherent", "gradient", "activation", "perturbation", "attention" or "propagation".
        summary: one sentence: what a map shows.
        signed: whether a map has evidence for and against.
        complete: whether values sum to something known: "", "f(x)" or "f(x) - f(baseline)".
        class_specific: whether different targets get different maps.
        needs: what the network must have; "any network".
        cost: passes in words, for K targets.
        passes: the same as a number for images (N, C, *S) and K targets, with the usual settings.
        source: the paper.
        verified: what it was checked against.
    """

    build: type[Explainer]
    kind: str
    summary: str
    signed: bool
    complete: str
    class_specific: bool
    needs: str
    cost: str
    passes: Callable[[Sequence[int], int], int]
    source: str
    verified: str

    @property
    def name(self) -> str:
        """As `attribute(method=…)` takes it."""
        return self.build.name
