"""Accuracy, calibration, and what several labels ask for instead."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.probability import SIGMOID, log_probabilities, probabilities
from torchbcos.metrics.about import Metric

__all__ = ["METRICS", "accuracy", "score", "score_each"]

_BINS = 15  # of the calibration error, as in the paper


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
    _check_examples(logits, targets)
    # in float32 all logits above 17 have probability 1, and their order is lost
    logits, targets = logits.cpu().double(), targets.cpu()
    if targets.dim() > 1:
        return _score_labels(logits, targets.double())
    targets = targets.long()
    found = accuracy(logits, targets)
    chances = probabilities(logits, probability)
    best = logits.argmax(1)
    confidence = chances.gather(1, best[:, None]).squeeze(1)
    logs = log_probabilities(logits, probability)
    loss = (logs.logsumexp(1) - logs.gather(1, targets[:, None]).squeeze(1)).mean()
    ece = _calibration_error(confidence, (best == targets).long()) if _finite(logits) else math.nan
    return {**found, "ece": ece, "loss": float(loss) if _finite(logits) else math.nan}


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
    _check_examples(logits, targets)
    if targets.dim() > 1:
        raise InputError(f"Accuracy needs one class an example: targets (N,), not {tuple(targets.shape)}.")
    classes = logits.shape[1]
    if classes == 1:
        raise InputError("One class alone cannot be scored.")
    whole = _finite(logits)  # else the highest of them is any of them
    targets = targets.to(logits.device)
    found = {"top1": _percent(logits.argmax(1) == targets) if whole else math.nan}
    if classes >= 5:
        found["top5"] = _percent((logits.topk(5, 1).indices == targets[:, None]).any(1)) if whole else math.nan
    return found


def _check_examples(logits: Tensor, targets: Tensor) -> None:
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


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)


def _finite(logits: Tensor) -> bool:
    return bool(logits.isfinite().all())


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
    _check_examples(logits, targets)
    if targets.dim() == 1:
        raise InputError(f"Scores of every label need targets (N, C), not {tuple(targets.shape)}.")
    logits, targets = logits.cpu().double(), targets.cpu().double()
    return [_score_one(logits[:, k], targets[:, k], finite=_finite(logits)) for k in range(logits.shape[1])]


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
    hard = (targets == 0) | (targets == 1)
    ece = math.nan
    if _finite(logits) and bool(hard.any()):
        ece = _calibration_error(probabilities(logits, SIGMOID)[hard], targets[hard].long())
    found = {"map": _mean([one["ap"] for one in each]), "f1": _mean([one["f1"] for one in each]), "ece": ece}
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


def _calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error in percent: how far confidence and frequency are apart in bins of equal width."""
    edges = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
    bins = torch.bucketize(confidence, edges[1:-1], right=True)  # the last bin includes 1
    gaps = torch.zeros(_BINS, dtype=torch.float64).index_add(0, bins, confidence - right.double())
    return 100 * float(gaps.abs().sum()) / len(confidence)


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
