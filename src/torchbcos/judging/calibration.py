"""The temperature of a network: fitted on predictions that no training has seen, and what it changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.probability import TEMPERATURES
from torchbcos.judging.outputs import Outputs
from torchbcos.judging.score import judge
from torchbcos.metrics import fit_temperature

__all__ = ["Calibration", "calibrate"]

_FEW = 100  # examples: with fewer, another draw of them would give quite another temperature
_CHANGED = ("ece", "loss")  # of all scores: a temperature leaves the order of classes, and so all others, as they are


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature.

    Attributes:
        temperature: for the card; None where these examples have none to keep.
        examples: on which it was fitted.
        note: why there is none, or that it is rough, in a sentence; "" where there is nothing to say.
    """

    temperature: float | None
    examples: int
    note: str = ""

    def compared(self, outputs: Outputs, probability: str) -> dict[str, Any]:
        """What it changes on some predictions: {"before": {"ece", "loss"}, "after": the same}; None for what is undefined."""
        found = {"before": judge(outputs, probability), "after": judge(outputs, probability, temperature=self.temperature)}
        return {when: _changed(scores) for when, scores in found.items()}


def _changed(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(scores[name], 4) if math.isfinite(scores[name]) else None for name in _CHANGED if name in scores}


def calibrate(outputs: Outputs, probability: str) -> Calibration:
    """Fit a temperature on the predictions of a split; see `torchbcos.metrics.fit_temperature`.

    A temperature at the end of its range is not kept: it says that this data has no best one, because every answer in it is
    right, or because answers are no better than guesses.

    Args:
        outputs: of examples that the network was not trained on.
        probability: "sigmoid" or "softmax": how the network was trained.

    Raises:
        InputError: no example could be read.
    """
    count = len(outputs.rows)
    if not count:
        raise InputError("None of the examples could be read: there is nothing to fit a temperature on.")
    known = outputs.targets.dim() == 1 or bool((outputs.targets == outputs.targets).any())
    if not known:
        return Calibration(None, count, "No label of these examples is known.")
    found = fit_temperature(outputs.logits, outputs.targets, probability=probability)
    low, high = TEMPERATURES
    if math.isnan(found):
        return Calibration(None, count, "The network gives NaN or infinity.")
    if found <= low:
        return Calibration(None, count, f"All of these {count:,} examples are answered rightly: the surer, the likelier.")
    if found >= high:
        return Calibration(None, count, f"On these {count:,} examples the network is no better than a guess.")
    note = f"Fitted on {count} examples alone: a rough value." if count < _FEW else ""
    return Calibration(round(found, 4), count, note)
