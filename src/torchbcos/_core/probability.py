"""Logits as probabilities: one owner of the two ways in which a classifier may be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint

__all__ = [
    "PROBABILITIES", "SIGMOID", "TEMPERATURES", "log_probabilities", "probabilities", "short_of_half", "trained_with",
    "undecided",
]  # fmt: skip

SIGMOID, _SOFTMAX = "sigmoid", "softmax"
PROBABILITIES = (SIGMOID, _SOFTMAX)
TEMPERATURES = (0.01, 100.0)  # the least and the greatest that a card may hold
_HALF = 0.5


def probabilities(logits: Tensor, kind: str, temperature: float | None = None) -> Tensor:
    """Logits as probabilities, in the logits' dtype.

    Args:
        logits: (N, classes).
        kind: "sigmoid" (trained with binary cross-entropy: each class on its own, the sum is free) or "softmax" (trained with
            cross-entropy: the classes share one probability of 1).
        temperature: T of the card, which divides the logits for this alone; None: 1. Below 1 a network is made surer of itself.

    Returns:
        (N, classes) in [0, 1].

    Raises:
        InputError: `kind` is neither.

    >>> import torch
    >>> probabilities(torch.tensor([[0.0, 0.0]]), "softmax"), probabilities(torch.zeros(1, 1), "sigmoid")
    (tensor([[0.5000, 0.5000]]), tensor([[0.5000]]))
    >>> probabilities(torch.tensor([[2.0]]), "sigmoid", 2.0) == torch.tensor([[1.0]]).sigmoid()
    tensor([[True]])
    """
    if temperature is not None:
        logits = logits / temperature
    if kind == _SOFTMAX:
        return logits.softmax(1)
    if kind == SIGMOID:
        return logits.sigmoid()
    raise InputError(f"probability is 'sigmoid' or 'softmax', not {kind!r}.{hint(str(kind), PROBABILITIES)}")


def log_probabilities(logits: Tensor, kind: str) -> Tensor:
    """The logarithm of `probabilities`, also where those round to 0 or 1.

    >>> import torch
    >>> log_probabilities(torch.tensor([[-200.0, 0.0]]), "softmax")
    tensor([[-200.,    0.]])
    """
    probabilities(logits[:0], kind)  # refuses other kinds
    return logits.log_softmax(1) if kind == _SOFTMAX else F.logsigmoid(logits)


def trained_with(loss: str, *, multi_label: bool = False) -> str:
    """Which probability belongs to a loss: softmax to cross-entropy of one class each, sigmoid to everything else.

    >>> trained_with("cross_entropy"), trained_with("bce"), trained_with("cross_entropy", multi_label=True)
    ('softmax', 'sigmoid', 'sigmoid')
    """
    return _SOFTMAX if loss == "cross_entropy" and not multi_label else SIGMOID


def short_of_half(chance: float, digits: int) -> float:
    """A probability as it is shown: one below one half is not rounded up to it, which `undecided` would contradict.

    Args:
        chance: in [0, 1], or NaN.
        digits: behind the point of the per cent that are shown.

    >>> [f"{short_of_half(p, 0):.0%}" for p in (0.494, 0.4999, 0.5)], f"{short_of_half(0.4999, 1):.1%}"
    (['49%', '49%', '50%'], '49.9%')
    """
    return min(chance, _HALF - 10.0 ** -(digits + 2)) if chance < _HALF else chance


def undecided(chances: Sequence[float]) -> bool:
    """Whether no class of a picture reaches one half: then the first of them is no answer yet.

    >>> undecided([0.4, 0.3]), undecided([0.5, 0.1]), undecided([])
    (True, False, False)
    """
    return bool(chances) and all(chance < _HALF for chance in chances)
