"""What a step minimises: a few small losses, each with its weight, summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.probability import probabilities
from torchbcos.conversion.steps import prefix_of
from torchbcos.explanation.layer import contribution_maps
from torchbcos.training.alignment import AlignmentLoss
from torchbcos.training.distillation import Taught, Teacher, explanation_distance
from torchbcos.training.guidance import TINY, energy_loss, l1_loss, one_class
from torchbcos.training.machine import processes
from torchbcos.training.mosaic import Mosaic
from torchbcos.training.parts import PartDiscovery
from torchbcos.training.recipe import OptimisationSettings, Recipe

__all__ = [
    "Answer", "Batch", "Bce", "CrossEntropy", "Distillation", "ExplanationDistillation", "Guidance", "Magnitude", "Objective",
    "classification", "terms_of",
]  # fmt: skip

_Order = Literal["truncated", True]  # of the second derivative: `create_graph` of `torchbcos.explain`


@dataclass(frozen=True)
class Batch:
    """Examples of one part of a step.

    Attributes:
        x: (N, C, *S) encoded, mixed.
        targets: (N, classes) that a network should answer, mixed likewise.
        y: (N,) classes, or (N, classes) of labels in [0, 1], NaN where one is not known; `targets` likewise.
        mask: (N, boxes, H, W): where the object is, where a recipe guides.
    """

    x: Tensor
    targets: Tensor
    y: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Answer:
    """What the networks say of a batch.

    Attributes:
        network: that is trained. logits: its own, (N, classes). taught: the teacher's, where there is one.
        heard: what its blocks give, where they are compared with the teacher's.
    """

    network: nn.Module
    batch: Batch
    logits: Tensor
    taught: Taught | None = None
    heard: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def classes(self) -> Tensor:
        """Classes that hold, as `Batch.y`; without labels, the teacher's first one."""
        if self.taught is not None and self.taught.teacher.points is not None:
            return self.taught.logits.argmax(1)
        return self.batch.y


class _Term(Protocol):
    """A loss: a frozen value that knows its weight and gives a number for an answer."""

    @property
    def weight(self) -> float:
        """By which the loss counts."""

    def term(self, answer: Answer) -> Tensor:
        """The loss, without its weight."""


@dataclass(frozen=True)
class Bce:
    """Binary cross-entropy of every class on its own, mean over N and C (arXiv 2306.10898, section 3.3).

    Attributes:
        smoothing: this share of each target moves to `even`.
        even: 1/C, where one class holds; 1/2, where several may.
        threshold: above it, targets become 1 and others 0; 0: they stay.
        least: targets are at least this ("bce_uniform": 1/C).
        partial: targets may be NaN, which says that nobody knows them: the mean is over the known ones of all processes.
    """

    smoothing: float = 0.0
    even: float = 0.5
    threshold: float = 0.0
    least: float = 0.0
    partial: bool = False
    weight: ClassVar[float] = 1.0

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of logits (N, C) and targets (N, C).

        >>> round(float(Bce().loss(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))), 4)
        0.6931
        """
        known = ~targets.isnan() if self.partial else None
        targets = targets if known is None else targets.nan_to_num(0.0)
        targets = _smoothed(targets, self.smoothing, self.even)
        if self.threshold:
            targets = (targets > self.threshold).to(targets.dtype)
        if self.least:
            targets = targets.clamp(min=self.least)
        if known is None:
            return F.binary_cross_entropy_with_logits(logits, targets)
        _, everywhere, world = _counted(known)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").where(known, 0.0)
        # gradients are averaged over processes: this becomes the mean over what is known to all of them
        return losses.sum() * (world / max(1, everywhere))

    def term(self, answer: Answer) -> Tensor:
        """See `_Term`."""
        return self.loss(answer.logits, answer.batch.targets)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the softmax.

    Attributes:
        smoothing: this share of each target moves to all classes alike.
    """

    smoothing: float = 0.0
    weight: ClassVar[float] = 1.0

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of logits (N, C) and targets (N, C)."""
        return F.cross_entropy(logits, _smoothed(targets, self.smoothing, 1 / targets.shape[1]))

    def term(self, answer: Answer) -> Tensor:
        """See `_Term`."""
        return self.loss(answer.logits, answer.batch.targets)


def _smoothed(targets: Tensor, share: float, even: float) -> Tensor:
    """Targets of which a share becomes `even`."""
    return targets * (1 - share) + share * even if share else targets


def classification(
    recipe: OptimisationSettings, classes: int, *, multi_label: bool = False, partial: bool = False
) -> Bce | CrossEntropy:
    """The loss by which a recipe classifies; several labels (`multi_label`), known or not (`partial`), need "bce"."""
    if recipe.loss == "cross_entropy" and not multi_label:
        return CrossEntropy(recipe.smoothing)
    even = 0.5 if multi_label else 1 / classes
    least = 1 / classes if recipe.loss == "bce_uniform" and not multi_label else 0.0
    return Bce(recipe.smoothing, even, recipe.threshold, least, partial)


@dataclass(frozen=True)
class Guidance:
    """Bring the evidence to where the object is, for the class of each annotated picture (one that holds, of several).

    Attributes:
        weight: by which it counts.
        kind: "energy" (`energy_loss`) or "l1" (`l1_loss`).
        at: the layer whose contributions are guided; "": the input's.
        order: of the derivative.
        per_box, size_corrected: see `energy_loss`.
    """

    weight: float
    kind: Literal["energy", "l1"] = "energy"
    at: str = ""
    order: _Order = "truncated"
    per_box: bool = False
    size_corrected: bool = False

    def term(self, answer: Answer) -> Tensor:
        """The mean over the annotated pictures of all processes."""
        x, y, mask = answer.batch.x, answer.classes, answer.batch.mask
        if mask is None:
            return x.new_zeros(())
        annotated = (mask > 0).flatten(1).any(1)
        if y.dim() == 2:
            y = (y >= 0.5).to(y.dtype)  # labels that hold: soft ones of one half and more, and none that is unknown
            annotated &= y.any(1)  # a picture of nothing has no class to explain
        count, everywhere, world = _counted(annotated)
        if not everywhere:
            return x.new_zeros(())
        if not count:  # other processes explain: synchronised norms wait for this one, too
            annotated = torch.arange(len(x), device=x.device) == 0
        classes = y if y.dim() == 1 else (y * (1 + torch.rand_like(y))).argmax(1)
        maps = contribution_maps(answer.network, x[annotated], classes[annotated], wrt=self.at or None, create_graph=self.order)
        inside = mask[annotated].float()
        if inside.shape[2:] != maps.shape[1:]:
            inside = F.adaptive_max_pool2d(inside, maps.shape[1:])
        compare = energy_loss if self.kind == "energy" else l1_loss
        losses = compare(maps, inside, per_box=self.per_box, size_corrected=self.size_corrected)
        # gradients are averaged over processes: this becomes the mean over the annotated pictures of all of them
        return losses.mean() * (count * world / everywhere)


@dataclass(frozen=True)
class Magnitude:
    """Bring Σ|contributions| near the logit: evidence of both signs that cancels is what a picture shows as speckle. (Ours.)

    Attributes:
        weight: by which it counts. share: of the pictures of a step that is explained. order: of the derivative.
    """

    weight: float
    share: float = 0.25
    order: _Order = "truncated"

    def term(self, answer: Answer) -> Tensor:
        """Mean of log(Σ|c| / |logit|), for a class that holds."""
        x, y = answer.batch.x, one_class(answer.classes)
        count = max(1, round(self.share * len(x)))
        maps = contribution_maps(answer.network, x[:count], y[:count], create_graph=self.order).flatten(1)
        return (maps.abs().sum(1).clamp_min(TINY).log() - maps.sum(1).abs().clamp_min(TINY).log()).mean()


def _counted(chosen: Tensor) -> tuple[int, int, int]:
    """How many are true here (annotated pictures, known labels), on all processes, and how many processes there are."""
    count, world = int(chosen.sum()), processes()[1]
    total = torch.tensor(count, device=chosen.device)
    if world > 1:
        torch.distributed.all_reduce(total)
    return count, int(total), world


@dataclass(frozen=True)
class Distillation:
    """The student's own loss, cross-entropy or BCE, with the teacher's probabilities as targets.

    Attributes:
        weight: by which it counts.
        shared: the student's classes share one probability of 1 (softmax), so the loss is cross-entropy.
    """

    weight: float
    shared: bool = False

    def loss(self, logits: Tensor, theirs: Tensor, probability: str) -> Tensor:
        """Of the student's and the teacher's logits, of which `probability` makes probabilities.

        >>> sure = torch.tensor([[9.0, -9.0]])
        >>> ways = [(shared, kind) for shared in (False, True) for kind in ("sigmoid", "softmax")]
        >>> [bool(Distillation(1.0, shared).loss(sure, sure, kind) < 0.01) for shared, kind in ways]
        [True, True, True, True]
        """
        wanted = probabilities(theirs, probability)
        if self.shared:
            return F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True).clamp_min(TINY))
        return F.binary_cross_entropy_with_logits(logits, wanted)

    def term(self, answer: Answer) -> Tensor:
        """See `_Term`."""
        assert answer.taught is not None
        return self.loss(answer.logits, answer.taught.logits, answer.taught.teacher.probability)


@dataclass(frozen=True)
class ExplanationDistillation:
    """Explain the teacher's favourite class as the teacher does (e²KD).

    Attributes:
        weight: by which it counts. order: of the derivative.
    """

    weight: float
    order: _Order = "truncated"

    def term(self, answer: Answer) -> Tensor:
        """See `_Term`."""
        assert answer.taught is not None
        favourite = answer.taught.logits.argmax(1)
        wanted = answer.taught.explained(favourite)
        found = contribution_maps(answer.network, answer.batch.x, favourite, create_graph=self.order)
        return explanation_distance(found, wanted).mean()


def terms_of(recipe: Recipe, classes: int, *, multi_label: bool = False, partial: bool = False) -> tuple[_Term, ...]:
    """All losses of a recipe: the next one is added here."""
    if recipe.aligns:
        weights = recipe.teacher_features, recipe.teacher_pooled, recipe.teacher_weight
        own: _Term = AlignmentLoss(*weights, recipe.teacher_temperature)
    else:
        own = classification(recipe, classes, multi_label=multi_label, partial=partial)
    terms: list[_Term] = [own]
    order: _Order = True if recipe.guide_order == "full" else "truncated"
    if recipe.magnitude:
        terms.append(Magnitude(recipe.magnitude, recipe.magnitude_share, order))
    if recipe.mosaic:
        terms.append(Mosaic(recipe.mosaic, recipe.mosaic_share, recipe.mosaic_smooth, recipe.mosaic_at, order))
    if recipe.parts:
        terms.append(PartDiscovery(recipe.parts))
    if recipe.guide:
        terms.append(
            Guidance(recipe.guide_weight, recipe.guide, recipe.guide_at, order, recipe.guide_per_box, recipe.guide_size_corrected)
        )
    if not recipe.aligns and recipe.teacher_weight and recipe.teacher:
        terms.append(Distillation(recipe.teacher_weight, isinstance(own, CrossEntropy)))
    if recipe.teacher_explanations and recipe.teacher:
        terms.append(ExplanationDistillation(recipe.teacher_explanations, order))
    return tuple(terms)


class Objective(nn.Module):
    """A network with the losses by which it is trained: one call a batch, so that several processes can follow it.

    Args:
        network: that is trained.
        terms: its losses.
        teacher: of distillation.
        half: the dtype in which autocast computes; None: float32.
        compiled: run the network through torch.compile; explanations take it as it is.
    """

    def __init__(
        self, network: nn.Module, terms: Sequence[_Term], teacher: Teacher | None = None, *, half: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.terms, self.teacher = network, tuple(terms), teacher
        self.autocast = half
        run: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False) if compiled else network
        self.run = run

    def forward(self, batch: Batch) -> Tensor:
        """The weighted sum of the losses, a number."""
        # no cache of half weights: one made without gradients (a teacher's, an explanation's) would hide the gradients
        with torch.autocast(batch.x.device.type, self.autocast, enabled=self.autocast is not None, cache_enabled=False):
            with self._listening() as heard:
                logits = self.run(batch.x)
            taught = self.teacher.look(batch.x, logits.shape[1]) if self.teacher is not None else None
            answer = Answer(self.network, batch, logits, taught, heard)
            weighted = [term.weight * term.term(answer) for term in self.terms]
            return sum(weighted[1:], weighted[0])

    def _listening(self) -> AbstractContextManager[dict[str, Tensor]]:
        """What the blocks of the network give in a block of code, where they are compared with the teacher's."""
        points = self.teacher.points if self.teacher is not None else None
        return nullcontext({}) if points is None else points.listening(self.network, prefix_of(self.network))
