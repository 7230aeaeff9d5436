"""What a classifier answered and whether it was right: checked once, for accuracy and for calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.probability import SIGMOID, probabilities

__all__ = ["answers", "check_examples", "is_finite"]


def answers(logits: Tensor, targets: Tensor, probability: str) -> tuple[Tensor, Tensor]:
    """How sure every answer was, and whether it was right.

    Args:
        logits: (N, C), finite, float64.
        targets: (N,) classes: the answer is the highest class, one an example; (N, C) labels: each is an answer, if it is 0 or 1.
        probability: "sigmoid" or "softmax"; several labels are answered by their sigmoids.

    Returns:
        confidence in [0, 1] and right (0 or 1, int64), as many as there are answers.
    """
    if targets.dim() == 1:
        best = logits.argmax(1)
        confidence = probabilities(logits, probability).gather(1, best[:, None]).squeeze(1)
        return confidence, (best == targets).long()
    hard = (targets == 0) | (targets == 1)
    return probabilities(logits, SIGMOID)[hard], targets[hard].long()


def is_finite(logits: Tensor) -> bool:
    """Whether all of them are numbers."""
    return bool(logits.isfinite().all())


def check_examples(logits: Tensor, targets: Tensor) -> None:
    """Refuse logits and targets that do not belong together.

    Raises:
        InputError: there are no examples, shapes differ, or a target is no class and no label.
    """
    shapes = f"not {tuple(logits.shape)} and {tuple(targets.shape)}"
    if logits.dim() != 2 or targets.dim() not in (1, 2):
        raise InputError(f"Expected logits (N, C) and targets (N,) or (N, C), {shapes}.")
    if len(logits) == 0 or len(logits) != len(targets):
        raise InputError(f"There are {len(logits)} predictions for {len(targets)} examples: nothing to score.")
    if targets.dim() == 1:
        _check_classes(targets, logits.shape[1])
    elif targets.shape != logits.shape:
        raise InputError(f"Expected a label for every class, logits (N, C) and targets (N, C), {shapes}.")
    else:
        _check_labels(targets)


def _check_classes(targets: Tensor, classes: int) -> None:
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError(f"Targets (N,) are numbers of classes, int64, not {targets.dtype}: use targets.long().")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise InputError(f"A target is {wrong}, and the logits have the classes 0 to {classes - 1}: leave such examples out.")


def _check_labels(targets: Tensor) -> None:
    wrong = targets[(targets < 0) | (targets > 1)]  # NaN is neither
    if len(wrong):
        raise InputError(
            f"Targets (N, C) are labels that hold (1), do not (0), may (between) or are not known (NaN), and one is "
            f"{wrong[0].item():g}."
        )
