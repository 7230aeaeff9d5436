"""Accuracy, calibration, and what several labels ask for instead."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.probability import SIGMOID, log_probabilities
from torchbcos.metrics.about import Metric
from torchbcos.metrics.answers import answers, check_examples, is_finite
from torchbcos.metrics.calibration import calibration_error

__all__ = ["METRICS", "accuracy", "score", "score_each"]


def score(logits: Tensor, targets: Tensor, *, probability: str = SIGMOID) -> dict[str, float]:
    """Metrics of a whole split, in float64.

    For one class each: `top1`, `top5` (of five classes or more), `loss` (negative log-likelihood of the normalised
    probabilities) and `ece` (expected calibration error in 15 bins; Guo et al. 2017, arXiv 1706.04599). For several labels:
    `map` (mean average precision), `f1` (macro, at 0.5), `ece`. All but the loss in percent. A label that holds for no example
    has no precision and no recall: it is left out of `map` and `f1`, and `labels_without_examples` counts such labels, where
    there are any. What is not known (NaN) is left out. A soft label (between 0 and 1) holds above 0.5; at 0.5 it is left out,
    and `ece`, which asks how often what was said came true, leaves out all soft labels. Logits that are not finite have no
    metrics: all are NaN.

    Args:
        logits: (N, C).
        targets: (N,) int64 classes, or (N, C) labels in [0, 1] or NaN.
        probability: "sigmoid" or "softmax": how the network was trained.

    Raises:
        InputError: there are no examples, shapes differ, or a target is no class and no label.

    >>> import torch
    >>> score(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))["top1"]
    50.0
    """
    check_examples(logits, targets)
    # in float32 all logits above 17 have probability 1, and their order is lost
    logits, targets = logits.cpu().double(), targets.cpu()
    if targets.dim() > 1:
        return _score_labels(logits, targets.double())
    targets = targets.long()
    found = accuracy(logits, targets)
    logs = log_probabilities(logits, probability)
    loss = (logs.logsumexp(1) - logs.gather(1, targets[:, None]).squeeze(1)).mean()
    return {**found, "ece": _ece(logits, targets, probability), "loss": float(loss) if is_finite(logits) else math.nan}


def accuracy(logits: Tensor, targets: Tensor, *, probability: str = SIGMOID) -> dict[str, float]:
    """How often the class is the highest (`top1`), or among the five highest (`top5`, of five classes or more), in percent.

    Args:
        logits: (N, C).
        targets: (N,) int64 classes.
        probability: as of all metrics; the order of the classes is the same in both.

    Raises:
        InputError: there are no examples, there is one class only, several labels hold for an example, or a target is no class.

    >>> import torch
    >>> accuracy(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
    {'top1': 50.0}
    """
    check_examples(logits, targets)
    if targets.dim() > 1:
        raise InputError(f"Accuracy needs one class an example: targets (N,), not {tuple(targets.shape)}.")
    classes = logits.shape[1]
    if classes == 1:
        raise InputError("One class alone cannot be scored.")
    whole = is_finite(logits)  # else the highest of them is any of them
    targets = targets.to(logits.device)
    found = {"top1": _percent(logits.argmax(1) == targets) if whole else math.nan}
    if classes >= 5:
        found["top5"] = _percent((logits.topk(5, 1).indices == targets[:, None]).any(1)) if whole else math.nan
    return found


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)


def score_each(logits: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """What `score` says of several labels, label by label.

    Args:
        logits: (N, C).
        targets: (N, C) labels in [0, 1], NaN where one is not known.

    Returns:
        For each label `ap` (average precision) and `f1` (at 0.5) in percent, NaN where it holds for no example; `known`, the
        examples that count, and `positive`, those for which it holds.

    Raises:
        InputError: as `score`.

    >>> import torch
    >>> score_each(torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [0.0]]))
    [{'ap': 100.0, 'f1': 100.0, 'known': 2, 'positive': 1}]
    """
    check_examples(logits, targets)
    if targets.dim() == 1:
        raise InputError(f"Scores of every label need targets (N, C), not {tuple(targets.shape)}.")
    logits, targets = logits.cpu().double(), targets.cpu().double()
    return [_score_one(logits[:, k], targets[:, k], finite=is_finite(logits)) for k in range(logits.shape[1])]


def _score_one(logits: Tensor, targets: Tensor, *, finite: bool) -> dict[str, float]:
    """One label: a question of its own."""
    known = (targets < 0.5) | (targets > 0.5)  # neither NaN nor one half
    logits, truth = logits[known], (targets[known] > 0.5).long()
    ap = f1 = math.nan
    if finite and bool(truth.any()):
        ap, f1 = 100 * _average_precision(logits, truth), 100 * _f1(logits > 0, truth.bool())
    return {"ap": ap, "f1": f1, "known": len(truth), "positive": int(truth.sum())}


def _score_labels(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Metrics where several labels may hold: each is a question of its own, answered by its sigmoid."""
    each = [one for one in score_each(logits, targets) if one["positive"]]
    found = {"map": _mean([one["ap"] for one in each]), "f1": _mean([one["f1"] for one in each])}
    found["ece"] = _ece(logits, targets, SIGMOID)
    lost = logits.shape[1] - len(each)
    return {**found, "labels_without_examples": lost} if lost else found


def _average_precision(scores: Tensor, truth: Tensor) -> float:
    """Area under precision over recall, in steps: each positive adds the precision at its place; equal scores are one step."""
    levels, place = torch.unique(scores, return_inverse=True)  # type: ignore[no-untyped-call]
    zeros = torch.zeros(len(levels), dtype=torch.float64)
    hits, said = (zeros.index_add(0, place, count.double()).flip(0).cumsum(0) for count in (truth, torch.ones_like(truth)))
    gained = hits.diff(prepend=hits.new_zeros(1))
    return float((gained * hits / said).sum() / hits[-1])


def _f1(said: Tensor, truth: Tensor) -> float:
    """2·hits / (said + true)."""
    return 2 * int((said & truth).sum()) / (int(said.sum()) + int(truth.sum()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _ece(logits: Tensor, targets: Tensor, probability: str) -> float:
    """Expected calibration error in percent; NaN where no answer was given, or none is known to be right or wrong."""
    if not is_finite(logits):
        return math.nan
    confidence, right = answers(logits, targets, probability)
    return calibration_error(confidence, right) if len(right) else math.nan


METRICS = (
    Metric(
        name="accuracy",
        function=accuracy,
        summary="How often the right class is the highest, or among the five highest, in percent.",
        best="high",
        range="[0, 100]; by chance 100/classes",
        needs="labels",
        cost="1",
        source="–",
        verified="twin, closed form, torchmetrics 1.9",
        blind="It says nothing of an explanation; but numbers of explanations are comparable only beside it.",
    ),
)
