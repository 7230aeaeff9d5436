"""Which pictures a comparison is about: the same for all models, chosen once, each used at most once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Examples
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.splits import match_classes
from torchbcos.judging import Outputs, ProgressBar, SavedOutputs
from torchbcos.metrics import choose_grids
from torchbcos.metrics.grids import odds_of
from torchbcos.pictures import Preprocess

__all__ = ["Chosen", "Looked", "choose_pictures", "grids_of", "labelled_by_one", "look_at", "order_of", "target_of"]

_OF_EACH = 20  # candidates that are looked at for each picture that is needed
_LEAST = 500


@dataclass(frozen=True)
class Looked:
    """What all models say of the candidates.

    Attributes:
        rows: places of the candidates in the split, those that all could read.
        labels: (N,) int64, in the order of the data's classes.
        logits: one (N, classes) a model: the data's classes first, in their order, then all others.
        probability: "sigmoid" or "softmax", one a model.
        unreadable: names.
        failures: a sentence each.
    """

    rows: tuple[int, ...]
    labels: Tensor
    logits: tuple[Tensor, ...]
    probability: tuple[str, ...]
    unreadable: tuple[str, ...]
    failures: tuple[str, ...]

    def top1(self) -> list[float]:
        """Percent of the candidates that each model gets right."""
        return [100 * float((one.argmax(1) == self.labels).double().mean()) for one in self.logits]


def look_at(
    models: Sequence[Measured], split: Split, classes: Sequence[str], prepares: Sequence[Preprocess], *, needed: int, seed: int,
    batch_size: int = 32, workers: int = 0, saved: Callable[[int], SavedOutputs | None] = lambda _: None,
    predict: Callable[..., Outputs], progress: ProgressBar | None = None,
) -> Looked:  # fmt: skip
    """Predict candidates by every model: a random part of the split, large enough for `needed` pictures.

    Raises:
        InputError: no picture can be read, or a model does not know the data's classes.
    """
    count = min(len(split), max(_LEAST, _OF_EACH * needed))
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()
    part = split.take(drawn)
    found: list[Outputs] = []
    for number, (model, prepare) in enumerate(zip(models, prepares, strict=True)):
        order_of(model, classes)  # refuse before anything is computed
        examples = Examples(part, prepare)
        found.append(predict(model, examples, batch_size=batch_size, workers=workers, saved=saved(number), progress=progress))
    if not found[0].rows:
        raise InputError(f"None of the {len(part)} pictures can be read; the first: {found[0].failures[0]}")
    common = sorted(set.intersection(*(set(one.rows) for one in found)))
    lost = {row: text for one in found for row, text in zip(one.unreadable, one.failures, strict=True)}
    logits = []
    for model, one in zip(models, found, strict=True):
        place = {row: i for i, row in enumerate(one.rows)}
        logits.append(one.logits[[place[row] for row in common]][:, order_of(model, classes)])
    return Looked(
        tuple(drawn[row] for row in common), part.targets[common], tuple(logits),
        tuple(model.classifier.card.probability for model in models),
        tuple(part.names[row] for row in sorted(lost)), tuple(lost[row] for row in sorted(lost)),
    )  # fmt: skip


def order_of(model: Measured, classes: Sequence[str]) -> list[int]:
    """Columns of a model's logits: those of the data's classes in their order, then the rest.

    Raises:
        InputError: the model does not know a class.
    """
    names = model.classifier.class_names
    own = match_classes(torch.arange(len(classes)), classes, names).tolist()
    rest = set(own)
    return [*own, *(i for i in range(len(names)) if i not in rest)]


def target_of(model: Measured, classes: Sequence[str], labels: Tensor) -> Tensor:
    """Labels of the data as outputs of a model."""
    return match_classes(labels, classes, model.classifier.class_names)


@dataclass(frozen=True)
class Chosen:
    """Places of pictures in the split.

    Attributes:
        rows: (G, n²) of grids, (N, 1) of pictures.
        labels: the same shape, in the order of the data's classes.
        notes: what a reader should be told.
    """

    rows: Tensor
    labels: Tensor
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"rows": self.rows.tolist(), "labels": self.labels.tolist(), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Chosen:
        """The way back."""
        return cls(torch.tensor(found["rows"]), torch.tensor(found["labels"]), tuple(found["notes"]))


def grids_of(looked: Looked, n: int, *, limit: int, confidence: float, seed: int, legacy: bool = False) -> Chosen:
    """Grids of pictures that all models get right.

    Raises:
        InputError: there are too few classes; the message says how many are needed.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        chosen = choose_grids(
            list(looked.logits), looked.labels, n, limit=limit, confidence=confidence, probability=list(looked.probability),
            generator=None if legacy else torch.Generator().manual_seed(seed), legacy=legacy,
        )  # fmt: skip
    notes = tuple(str(one.message) for one in told if issubclass(one.category, UserWarning))
    return Chosen(torch.tensor(looked.rows)[chosen], looked.labels[chosen], notes)


def choose_pictures(looked: Looked, *, limit: int, confidence: float, seed: int, among: set[int] | None = None) -> Chosen:
    """Pictures that all models get right and are sure of, the classes in turn, in a drawn order.

    Args:
        looked: the candidates.
        limit: how many at most.
        confidence: a probability that every model must exceed.
        seed: of the order.
        among: places in the split that may be chosen: those with boxes, say.

    Raises:
        InputError: there is none.
    """
    odds = torch.stack(
        [odds_of(one, looked.labels, kind) for one, kind in zip(looked.logits, looked.probability, strict=True)]
    ).amin(0)
    least = math.log(confidence / (1 - confidence)) if confidence else -math.inf
    drawn = torch.randperm(len(odds), generator=torch.Generator().manual_seed(seed)).tolist()
    pools: dict[int, list[int]] = {}
    for i in drawn:
        if odds[i] > least and (among is None or looked.rows[i] in among):
            pools.setdefault(int(looked.labels[i]), []).append(i)
    if not pools:
        which = "" if among is None else " with boxes"
        raise InputError(
            f"None of {len(odds)} pictures{which} is classified rightly and surer than {confidence:g} by all models: lower the "
            "confidence, or give more pictures."
        )
    queues = [pools[c] for c in sorted(pools)]
    turns = [i for k in range(max(map(len, queues))) for queue in queues if k < len(queue) for i in queue[k : k + 1]][:limit]
    notes = (f"The data allow {len(turns)} pictures, not {limit}.",) if len(turns) < limit else ()
    return Chosen(torch.tensor([[looked.rows[i]] for i in turns]), looked.labels[turns][:, None], notes)


def labelled_by_one(data: Labelled) -> None:
    """Refuse data in which several labels may hold.

    Raises:
        InputError: several may.
    """
    if data.multi_label:
        raise InputError("Comparisons are about one class a picture, and in this data several labels may hold at once.")
