"""What a sum that does not add up says: something in the network changes numbers or gradients where nobody can watch."""

from __future__ import annotations

from torch import Tensor

from torchbcos._core.errors import StateError
from torchbcos.explanation.complete import unit_of
from torchbcos.explanation.result import Explanation

__all__ = ["DoesNotAddUp", "check_adds_up", "check_alone"]

# How many times its tolerance a sum may miss its value before no rounding explains it, and the least of that: networks in
# float64 may compute parts in float32.
_ROUNDING, _LEAST = 10, 1e-3


class DoesNotAddUp(StateError):
    """A sum that misses its value by more than any rounding; `explanation` is the one that it was found in."""

    def __init__(self, message: str, explanation: Explanation) -> None:
        super().__init__(message)
        self.explanation = explanation


def check_adds_up(e: Explanation) -> None:
    """Raise DoesNotAddUp where contributions and constants miss a value by more than any rounding.

    W is right by the rules of the operations that were seen. What they cannot see is a hook that changes gradients, a tensor
    that is edited through `.data`, numpy or another thread, or images that look at each other.
    """
    if bool(e.complete.all()):
        return
    missed = e.residual.detach().abs().double()
    wrong = missed > _bound(e) * unit_of(e.values, e.contributions, e.constants.values())  # never where something is not finite
    if bool(wrong.any()):
        i, k = (int(place) for place in wrong.nonzero()[0])
        raise DoesNotAddUp(
            f"The explanation of image {i}, target {int(e.targets[i, k])}, does not add up: {float(e.residual[i, k]):.2g} of "
            f"{float(e.values[i, k]):.2g} is missing. Something in this network changes numbers or gradients where it cannot be "
            "watched: a hook that changes gradients, an edit through .data, numpy or another thread, images that look "
            "at each other, a layer or rule that says what is not so. torchbcos.testing.check_model(model, x) names the module.",
            e,
        )


def _bound(e: Explanation) -> float:
    return max(_LEAST, _ROUNDING * (e.tolerance or 0.0))


def check_alone(together: Tensor, alone: Explanation) -> None:
    """Raise StateError where images give other outputs alone than together: the explanation of one would be that of another.

    Args:
        together: (N, classes) the outputs of the batch.
        alone: the explanation of the same images, one by one.
    """
    scale = float(together.detach().abs().max().clamp_min(1))
    if not float((together.detach() - alone.outputs.detach()).abs().max()) <= _bound(alone) * scale:
        raise StateError(
            "The outputs of this network for one image depend on the other images in its batch, so no explanation of one "
            "belongs to them: explain images one at a time (batch_size=1), or look for an operation over the first axis."
        )
