"""What a network said about the examples of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Outputs"]


@dataclass(frozen=True)
class Outputs:
    """Logits of the examples that could be read, and the examples that could not.

    Attributes:
        logits: (N, classes) float32 on the processor.
        targets: (N,) int64 classes, or (N, classes) of labels in [0, 1], NaN where one is not known.
        rows: N places in the split.
        unreadable: places in the split of the examples that could not be read.
        failures: a sentence for each of those.
    """

    logits: Tensor
    targets: Tensor
    rows: tuple[int, ...]
    unreadable: tuple[int, ...] = ()
    failures: tuple[str, ...] = ()

    @staticmethod
    def join(parts: Sequence[Outputs]) -> Outputs:
        """The outputs of several processes or batches as one, in the order of the split.

        >>> a, b = (Outputs(torch.full((1, 2), float(i)), torch.tensor([i]), (i,)) for i in (0, 1))
        >>> Outputs.join([b, a]).rows
        (0, 1)
        """
        rows = [row for part in parts for row in part.rows]
        lost = sorted((row, text) for part in parts for row, text in zip(part.unreadable, part.failures, strict=True))
        full = [part for part in parts if part.rows] or list(parts[:1])  # a process without examples knows no classes
        logits = torch.cat([part.logits for part in full]) if full else torch.empty(0, 0)
        targets = torch.cat([part.targets for part in full]) if full else torch.empty(0, dtype=torch.int64)
        order = sorted(range(len(rows)), key=rows.__getitem__)
        return Outputs(
            logits[order], targets[order], tuple(rows[i] for i in order),
            tuple(row for row, _ in lost), tuple(text for _, text in lost),
        )  # fmt: skip
