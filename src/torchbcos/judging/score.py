"""Numbers from predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.judging.outputs import Outputs
from torchbcos.metrics import score

__all__ = ["Metric", "judge"]


class Metric(Protocol):
    """Named numbers from logits (N, classes) and targets (N,) or (N, classes)."""

    def __call__(self, logits: Tensor, targets: Tensor, /, *, probability: str) -> Mapping[str, float]:
        """Compute them; `probability` is "sigmoid" or "softmax"."""


def judge(
    outputs: Outputs | tuple[Tensor, Tensor], probability: str, *, temperature: float | None = None,
    metrics: Sequence[Metric] = (score,),
) -> dict[str, float]:  # fmt: skip
    """Score the predictions of a whole split.

    Args:
        outputs: of `predict_split` (of all processes: `Outputs.join`), or logits (N, classes) and targets.
        probability: "sigmoid" or "softmax": how the network was trained.
        temperature: T of the card, which divides the logits; it changes calibration and loss, and no order of classes.
        metrics: what to compute.

    Returns:
        The numbers of all metrics by name.

    Raises:
        InputError: no example could be read, or the metric does not fit the targets.

    >>> import torch
    >>> from torchbcos.metrics import accuracy
    >>> judge((torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])), "sigmoid", metrics=[accuracy])
    {'top1': 50.0}
    """
    if isinstance(outputs, Outputs):
        if not outputs.rows and outputs.failures:
            raise InputError(f"None of the {len(outputs.failures)} pictures can be read; the first: {outputs.failures[0]}")
        outputs = (outputs.logits, outputs.targets)
    logits, targets = outputs
    if temperature is not None:
        logits = logits / temperature
    return {name: value for metric in metrics for name, value in metric(logits, targets, probability=probability).items()}
