"""The network's own explanation as one method among the others."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.record import Method
from torchbcos.attribution.subject import Subject
from torchbcos.explanation.engine import explain_through
from torchbcos.functional.replace import noisy

__all__ = ["RECORDS", "Inherent"]


@dataclass(frozen=True)
class Inherent(Explainer):
    """The contributions `W(x)·x` of `torchbcos.explain` (arXiv 2306.10898, eq. 4): exact, for any network that it explains.

    Args:
        relative: minus the mean over all classes: what speaks for this class more than for the others.
        flips: average with the map of the mirrored picture (mirrored back). Averages are no longer exact for x itself.
        copies: average over this many noisy copies, as DAVE does;
            `samples` of `attribute` overrides it where it is more than 0.
        noise: standard deviation of their noise, in units of x.
    """

    name: ClassVar[str] = "inherent"
    scales: ClassVar[tuple[str, ...]] = ("live", "frozen")  # it holds its factors in either case
    _: KW_ONLY
    relative: bool = False
    flips: bool = False
    copies: int = 0
    noise: float = 0.1

    def compute(self, subject: Subject) -> Found:
        """One pass forward and one back for each target, for every picture that is averaged."""
        if not self.flips and not self.copies and not self.relative:
            e = subject.explained()
            return Found(e.contributions, e.weights * e.inputs.unsqueeze(1), e.residual)
        values = [self._contributions(subject, point, back) for point, back in self._pictures(subject)]
        mean = torch.stack(values).mean(0)
        return Found(mean.sum(2), mean)

    def _pictures(self, subject: Subject) -> list[tuple[Tensor, bool]]:
        """What is averaged, and whether it must be mirrored back."""
        if isinstance(self.copies, bool) or not isinstance(self.copies, int) or self.copies < 0:
            raise InputError(f"copies must be an integer of at least 0, not {self.copies!r}.")
        count = (subject.samples or self.copies) if self.copies else 0
        points = [noisy(subject.x, subject.noise(self.noise), clamp=True) for _ in range(count)] or [subject.x]
        mirrored = [(point.flip(-1), True) for point in points] if self.flips else []
        return [(point, False) for point in points] + mirrored

    def _contributions(self, subject: Subject, point: Tensor, back: bool) -> Tensor:
        """(N, K, C, *S) contributions at one picture."""
        model = _WithMean(subject.module) if self.relative else subject.module
        columns = subject.targets
        contrast = subject.outputs.shape[1] if self.relative else None
        e = explain_through(model, subject.prepare, point, columns, contrast=contrast, batch_size=subject.batch_size)
        subject.forwards += len(point)
        subject.backwards += len(point) * subject.count
        values = e.weights * point.unsqueeze(1)
        return values.flip(-1) if back else values


class _WithMean(nn.Module):
    """A network, and the mean of its outputs as one more output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.model(x)
        return torch.cat([outputs, outputs.mean(1, keepdim=True)], 1)


RECORDS = (
    Method(
        Inherent, "inherent", "What every pixel adds to the output: W(x)·x.", True, "f(x)", True,
        "any network that explain takes", "1 + K", lambda s, k: 1 + k, "Böhle et al. 2024, arXiv 2306.10898",
        "twins, residual",
    ),
)  # fmt: skip
