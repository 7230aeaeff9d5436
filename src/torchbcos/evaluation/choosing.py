"""Which pictures a comparison is about: the same for all models, chosen once, each used at most once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos.data.labelled import Split
from torchbcos.data.loading import Examples
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.splits import match_classes
from torchbcos.judging import Outputs, ProgressBar, SavedOutputs
from torchbcos.metrics import choose_grids
from torchbcos.metrics.grids import odds_of
from torchbcos.pictures import Preprocess

__all__ = ["Chosen", "Looked", "choose_pictures", "grids_of", "look_at", "order_of", "target_of"]

_OF_EACH = 20  # candidates that are looked at for each picture that is needed
_LEAST = 500
_SURE = 1e30  # odds that no model has


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
        predicted: one (N,) a model: its own first class, where that is the target; then `labels` are those of the first model,
            and the columns of `logits` each model's own.
        copies: names of pictures that are another's copy, byte for byte: they are no candidates.
    """

    rows: tuple[int, ...]
    labels: Tensor
    logits: tuple[Tensor, ...]
    probability: tuple[str, ...]
    unreadable: tuple[str, ...]
    failures: tuple[str, ...]
    predicted: tuple[Tensor, ...] = ()
    copies: tuple[str, ...] = ()

    def top1(self) -> list[float | None]:
        """Percent of the candidates that each model gets right; None where nothing says what is right."""
        if self.predicted:
            return [None] * len(self.logits)
        return [100 * float((one.argmax(1) == self.labels).double().mean()) for one in self.logits]

    def odds(self) -> Tensor:
        """(N,) float64 logarithm of p / (1 - p) of the target, the least of all models; -inf where a model is wrong."""
        own = self.predicted or (self.labels,) * len(self.logits)
        return torch.stack([odds_of(*one) for one in zip(self.logits, own, self.probability, strict=True)]).amin(0)


def look_at(
    models: Sequence[Measured], split: Split, classes: Sequence[str], prepares: Sequence[Preprocess], *, needed: int, seed: int,
    predict: Callable[..., Outputs], predicted: bool = False, most: int | None = None, batch_size: int = 32, workers: int = 0,
    saved: Callable[[int, Split], SavedOutputs | None] = lambda _number, _part: None, progress: ProgressBar | None = None,
) -> Looked:  # fmt: skip
    """Predict candidates by every model: a random part of the split, large enough for `needed` pictures.

    Args:
        models: which.
        split: the data.
        classes: of the data.
        prepares: how each model's pictures are prepared.
        needed: pictures.
        seed: of the draw.
        predict: of an engine.
        predicted: targets are each model's own first class, and classes of the data mean nothing.
        most: candidates; None: as many as `needed` pictures ask for.
        batch_size, workers, progress: as the engine takes them.
        saved: number of a model and candidates -> where predictions are kept on the way.

    Raises:
        InputError: no picture can be read, a model does not know the data's classes, or gives no numbers.
    """
    if not len(split):
        raise InputError("There is no picture in this split.")
    if not predicted:
        for model in models:
            order_of(model, classes)  # refuse before anything is computed
    count = min(len(split), max(_LEAST, _OF_EACH * needed), len(split) if most is None else most)
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()
    kept, twins = _without_copies(split, drawn)
    part = split.take(kept)
    found: list[Outputs] = []
    for number, (model, prepare) in enumerate(zip(models, prepares, strict=True)):
        keep = saved(number, part)
        with _said(model):
            outputs = predict(
                model, Examples(part, prepare), batch_size=batch_size, workers=workers, saved=keep, progress=progress
            )
        if keep is not None:
            keep.write(outputs)  # the next comparison asks the same
        found.append(outputs)
    common = sorted(set.intersection(*(set(one.rows) for one in found)))
    lost = {row: text for one in found for row, text in zip(one.unreadable, one.failures, strict=True)}
    if not common:
        raise InputError(f"None of the {len(part)} pictures can be read; the first: {lost[min(lost)]}")
    logits = []
    for model, one in zip(models, found, strict=True):
        place = {row: i for i, row in enumerate(one.rows)}
        own = one.logits[[place[row] for row in common]]
        _check(model, own)
        logits.append(own if predicted else own[:, order_of(model, classes)])
    firsts = tuple(one.argmax(1) for one in logits) if predicted else ()
    return Looked(
        tuple(kept[row] for row in common), firsts[0] if predicted else part.targets[common], tuple(logits),
        tuple(model.classifier.card.probability for model in models),
        tuple(part.names[row] for row in sorted(lost)), tuple(lost[row] for row in sorted(lost)), firsts,
        tuple(split.names[row] for row in twins),
    )  # fmt: skip


def _without_copies(split: Split, rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """Of pictures that are the same byte for byte the first, and the others: one picture is no two items."""
    if split.twins is None:
        return list(rows), []
    seen: set[int] = set()
    kept: list[int] = []
    others: list[int] = []
    for row in rows:
        (others if split.twins[row] in seen else kept).append(row)
        seen.add(split.twins[row])
    return kept, others


@contextmanager
def _said(model: Measured) -> Iterator[None]:
    """A network of somebody else's may raise anything."""
    try:
        yield
    except BcosError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StateError(f"{model.label} ran out of memory: measure smaller pictures (--size, --cell).") from error
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(shorten(f"{model.label} gives no predictions for these pictures: {why}", 480)) from error


def _check(model: Measured, logits: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] != len(model.classifier.class_names):
        raise InputError(
            f"{model.label} gives {tuple(logits.shape[1:])} numbers a picture, and its card names "
            f"{len(model.classifier.class_names)} classes: comparisons need a classifier."
        )
    if not bool(logits.isfinite().all()):
        raise InputError(
            f"{model.label} gives logits that are not finite (NaN or infinity): nothing says which pictures are sure."
        )


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
        labels: the same shape, in the order of the data's classes; of predicted targets, in the first model's.
        notes: what a reader should be told.
        targets: the same shape, one a model: its outputs, where they are its own predictions; else empty.
    """

    rows: Tensor
    labels: Tensor
    notes: tuple[str, ...] = ()
    targets: tuple[Tensor, ...] = ()

    def first(self, count: int) -> Chosen:
        """The first so many."""
        return Chosen(self.rows[:count], self.labels[:count], self.notes, tuple(one[:count] for one in self.targets))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "rows": self.rows.tolist(), "labels": self.labels.tolist(), "notes": list(self.notes),
            "targets": [one.tolist() for one in self.targets],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Chosen:
        """The way back."""
        targets = tuple(torch.tensor(one) for one in found["targets"])
        return cls(torch.tensor(found["rows"]), torch.tensor(found["labels"]), tuple(found["notes"]), targets)


def grids_of(looked: Looked, n: int, *, limit: int, confidence: float, seed: int, legacy: bool = False) -> Chosen:
    """Grids of pictures that all models get right.

    Raises:
        InputError: there are too few classes; the message says how many are needed.
    """
    logits, labels, kinds = _of_grids(looked)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        chosen = choose_grids(
            logits, labels, n, limit=limit, confidence=confidence, probability=kinds,
            generator=None if legacy else torch.Generator().manual_seed(seed), legacy=legacy,
        )  # fmt: skip
    notes = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
    apart = torch.tensor(
        [all(len(set(one[grid].tolist())) == n * n for one in looked.predicted) for grid in chosen], dtype=torch.bool
    )
    if not bool(apart.all()):
        notes.append(f"{int((~apart).sum())} grids of {n} x {n} were left out: a model gave two of their cells one class.")
        chosen = chosen[apart]
    if not len(chosen):
        raise InputError(
            f"There is no grid of {n} x {n} in which every model sees {n * n} different classes: give more pictures."
        )
    return _chosen(looked, chosen, notes)


def _of_grids(looked: Looked) -> tuple[list[Tensor], Tensor, list[str]]:
    """Logits, labels and probabilities as `choose_grids` takes them."""
    if not looked.predicted:
        return list(looked.logits), looked.labels, list(looked.probability)
    # classes that were predicted are the classes that there are; every picture is right, and as sure as the least sure model
    names = sorted(set(looked.labels.tolist()))
    place = {name: i for i, name in enumerate(names)}
    labels = torch.tensor([place[label] for label in looked.labels.tolist()])
    sure = torch.full((len(labels), len(names)), -_SURE, dtype=torch.float64)
    sure[torch.arange(len(labels)), labels] = looked.odds().clamp(-_SURE / 2, _SURE)
    return [sure], labels, ["sigmoid"]


def _chosen(looked: Looked, places: Tensor, notes: Sequence[str]) -> Chosen:
    targets = tuple(one[places] for one in looked.predicted)
    return Chosen(torch.tensor(looked.rows)[places], looked.labels[places], tuple(notes), targets)


def choose_pictures(
    looked: Looked, *, limit: int, confidence: float, seed: int, among: Collection[int] | None = None, which: str = ""
) -> Chosen:
    """Pictures that all models get right and are sure of, the classes in turn, in a drawn order.

    Args:
        looked: the candidates.
        limit: how many at most.
        confidence: a probability that every model must exceed.
        seed: of the order.
        among: places in the split that may be chosen.
        which: pictures these are, in words: "with boxes", say.

    Raises:
        InputError: there is none.
    """
    odds = looked.odds()
    least = math.log(confidence / (1 - confidence)) if confidence else -math.inf
    drawn = torch.randperm(len(odds), generator=torch.Generator().manual_seed(seed)).tolist()
    pools: dict[int, list[int]] = {}
    for i in drawn:
        if odds[i] > least and (among is None or looked.rows[i] in among):
            pools.setdefault(int(looked.labels[i]), []).append(i)
    if not pools:
        count = len(odds) if among is None else sum(row in among for row in looked.rows)
        right = "surer" if looked.predicted else "classified rightly and surer"
        raise InputError(
            f"None of {count} pictures{which and ' '}{which} is {right} than {confidence:g} by all models: lower the confidence, "
            "or give more pictures."
        )
    queues = [pools[c] for c in sorted(pools)]
    turns = [i for k in range(max(map(len, queues))) for queue in queues if k < len(queue) for i in queue[k : k + 1]][:limit]
    notes = [f"The data allow {len(turns)} pictures{which and ' '}{which}, not {limit}."] if len(turns) < limit else []
    return _chosen(looked, torch.tensor(turns)[:, None], notes)
