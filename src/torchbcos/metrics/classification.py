"""Accuracy, calibration, and what several labels ask for instead."""

from __future__ import annotations

from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.optional import require


def score(logits: Tensor, targets: Tensor, *, probability: str = "sigmoid") -> dict[str, float]:
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
    if len(logits) == 0 or len(logits) != len(targets):
        raise InputError(f"There are {len(logits)} predictions for {len(targets)} examples: nothing to score.")
    metrics = require("torchmetrics.functional.classification", extra="train", why="scoring")
    logits, classes = logits.float(), logits.shape[1]
    if targets.dim() > 1:
        chances, truth = logits.sigmoid(), targets.long()
        if classes == 1:
            precision = metrics.binary_average_precision(chances[:, 0], truth[:, 0])
            f1 = metrics.binary_f1_score(chances[:, 0], truth[:, 0])
        else:
            precision = metrics.multilabel_average_precision(chances, truth, classes)
            f1 = metrics.multilabel_f1_score(chances, truth, classes)
        found = {
            "map": precision,
            "f1": f1,
            "ece": metrics.binary_calibration_error(chances.flatten(), truth.flatten(), n_bins=15),
        }
        return {name: 100 * float(value) for name, value in found.items()}
    if classes == 1:
        raise InputError("One class alone cannot be scored.")
    chances = logits.softmax(1) if probability == "softmax" else logits.sigmoid()
    sums = chances / chances.sum(1, keepdim=True).clamp_min(1e-30)
    right = (logits.argmax(1) == targets).float()
    confidence = chances.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)
    result = {"top1": 100 * float(right.mean())}
    if classes >= 5:
        best = logits.topk(5, 1).indices
        result["top5"] = 100 * float((best == targets[:, None]).any(1).float().mean())
    result["ece"] = 100 * float(metrics.binary_calibration_error(confidence, right.long(), n_bins=15))
    result["loss"] = float(-sums.gather(1, targets[:, None]).clamp_min(1e-30).log().mean())
    return result
