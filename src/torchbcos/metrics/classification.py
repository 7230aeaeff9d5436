"""Accuracy, calibration, and what several labels ask for instead."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.optional import require
from torchbcos._core.probability import SIGMOID, probabilities

__all__ = ["accuracy", "score"]

_BINS = 15  # of the calibration error, as in the paper


def score(logits: Tensor, targets: Tensor, *, probability: str = SIGMOID) -> dict[str, float]:
    """Metrics of a whole split, by torchmetrics.

    For one class each: `top1`, `top5` (of five classes or more), `loss` (negative log-likelihood of the normalised
    probabilities) and `ece` (expected calibration error in 15 bins; Guo et al. 2017, arXiv 1706.04599). For several labels:
    `map` (mean average precision), `f1` (macro, at 0.5), `ece`. All but the loss in percent.

    Args:
        logits: (N, C).
        targets: (N,) int64 classes, or (N, C) of zeros and ones.
        probability: "sigmoid" or "softmax": how the network was trained.

    Raises:
        InputError: there are no examples, or shapes differ.

    >>> import torch
    >>> score(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))["top1"]
    50.0
    """
    _check_examples(logits, targets)
    # in float32 all logits above 17 have probability 1, and their order is lost
    logits, targets = logits.cpu().double(), targets.cpu()
    if targets.dim() > 1:
        return _score_labels(logits, targets.long())
    found = accuracy(logits, targets)
    chances = probabilities(logits, probability)
    best = logits.argmax(1)
    confidence = chances.gather(1, best[:, None]).squeeze(1)
    shares = chances / chances.sum(1, keepdim=True).clamp_min(1e-30)
    loss = -shares.gather(1, targets[:, None]).clamp_min(1e-30).log().mean()
    return {**found, "ece": _calibration_error(confidence, (best == targets).long()), "loss": float(loss)}


def accuracy(logits: Tensor, targets: Tensor, *, probability: str = SIGMOID) -> dict[str, float]:
    """How often the class is the highest (`top1`), or among the five highest (`top5`, of five classes or more), in percent.

    Args:
        logits: (N, C).
        targets: (N,) int64 classes.
        probability: as of all metrics; the order of the classes is the same in both.

    Raises:
        InputError: there are no examples, there is one class only, or several labels hold for an example.

    >>> import torch
    >>> accuracy(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
    {'top1': 50.0}
    """
    _check_examples(logits, targets)
    if targets.dim() > 1:
        raise InputError(f"Accuracy needs one class an example: targets (N,), not {tuple(targets.shape)}.")
    classes = logits.shape[1]
    if classes == 1:
        raise InputError("One class alone cannot be scored.")
    found = {"top1": _percent(logits.argmax(1) == targets)}
    if classes >= 5:
        found["top5"] = _percent((logits.topk(5, 1).indices == targets[:, None]).any(1))
    return found


def _check_examples(logits: Tensor, targets: Tensor) -> None:
    if len(logits) == 0 or len(logits) != len(targets):
        raise InputError(f"There are {len(logits)} predictions for {len(targets)} examples: nothing to score.")


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)


def _score_labels(logits: Tensor, truth: Tensor) -> dict[str, float]:
    """Metrics where several labels may hold: each is a question of its own, answered by its sigmoid."""
    metrics = require("torchmetrics.functional.classification", extra="train", why="scoring")
    chances, classes = probabilities(logits, SIGMOID), logits.shape[1]
    if classes == 1:
        precision = metrics.binary_average_precision(chances[:, 0], truth[:, 0])
        f1 = metrics.binary_f1_score(chances[:, 0], truth[:, 0])
    else:
        precision = metrics.multilabel_average_precision(chances, truth, classes)
        f1 = metrics.multilabel_f1_score(chances, truth, classes)
    ece = _calibration_error(chances.flatten(), truth.flatten())
    return {"map": 100 * float(precision), "f1": 100 * float(f1), "ece": ece}


def _calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error in percent."""
    metrics = require("torchmetrics.functional.classification", extra="train", why="scoring")
    # torchmetrics opens one more bin for exactly 1; the last bin includes it
    inside = confidence.clamp(max=1 - torch.finfo(confidence.dtype).eps)
    return 100 * float(metrics.binary_calibration_error(inside, right, n_bins=_BINS))
