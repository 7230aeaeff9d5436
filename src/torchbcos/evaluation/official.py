"""Checking official weights: is this the official file, and does it reach the accuracy that its card names?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torchbcos._core.errors import InputError, MissingFileError, WeightsError
from torchbcos.data.labelled import Split
from torchbcos.data.loading import Examples
from torchbcos.judging import ProgressBar, judge, predict_split
from torchbcos.metrics import accuracy
from torchbcos.zoo.build import from_card
from torchbcos.zoo.card import Card, imagenet_wnids, official_card
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.sources import embedded_names, pick_device
from torchbcos.zoo.store import fetch, fill, hash_file, read_weights

__all__ = ["Accuracy", "find_official", "make_classifier", "measure_official", "names_of"]

_LEAST_TOLERANCE = 0.1  # points: other JPEG decoders and other hardware


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often a classifier was right on labelled pictures.

    Attributes:
        images: pictures that could be read; failed: one sentence for each that could not.
        classes: how many classes they show.
        top1, top5: how often the class is the highest, or among the five highest, in percent.
    """

    images: int
    classes: int
    top1: float
    top5: float
    failed: tuple[str, ...] = ()

    def tolerance(self, expected: float) -> float:
        """Points of top-1 by which samples of this size differ by chance: three standard errors.

        >>> round(Accuracy(images=50_000, classes=1000, top1=75.0, top5=92.0).tolerance(75.0), 2)
        0.58
        """
        p = min(max(expected / 100, 0.0), 1.0)
        return max(_LEAST_TOLERANCE, 300 * math.sqrt(p * (1 - p) / self.images))

    def agrees(self, card: Card) -> bool | None:
        """Whether this is the card's accuracy, within the tolerance; None where they cannot be compared.

        They can if the card has a number, and the pictures show all of its classes.
        """
        if card.top1 is None or self.classes != len(card.class_names()):
            return None
        return abs(self.top1 - card.top1) <= self.tolerance(card.top1)


def find_official(name: str, weights: str | Path | None = None) -> tuple[Card, Path, str]:
    """The card of official weights, their file, and its SHA-256, which the card confirms.

    Args:
        name: one of `list_models(pretrained=True)`.
        weights: the file, downloaded elsewhere; None takes it from the usual cache, or downloads it.

    Raises:
        InputError: there are no official weights of that name.
        MissingFileError: there is no such file.
        WeightsError: no network, or the file is another one.
    """
    if name in embedded_names():
        raise InputError(f"{name!r} comes with the package: there is no official file to compare it with.")
    card = official_card(name)
    if weights is None:
        path = fetch(card)
    else:
        path = Path(weights)
        if not path.is_file():
            raise MissingFileError(f"There is no weights file {str(path)!r}.")
    digest = hash_file(path)
    if not card.sha256 or not digest.startswith(card.sha256):
        raise WeightsError(
            f"{str(path)!r} is not the official {name}: its SHA-256 begins with {digest[:10]}, the card's with {card.sha256}; "
            f"download {card.url} again."
        )
    return card, path, digest


def make_classifier(card: Card, path: Path, device: str = "auto") -> Classifier:
    """A classifier of an official file."""
    network = from_card(card)
    fill(network, read_weights(path), where=path.name)
    return Classifier(network.eval().to(pick_device(device)), card)


def names_of(card: Card) -> dict[str, int]:
    """Everything that a class may be called, in lower case, with its index: wnid before name before number."""
    names = card.class_names()
    known = {name.casefold(): i for i, name in reversed(list(enumerate(names)))}
    if card.classes == "imagenet":
        known = {**known, **{wnid: i for i, wnid in enumerate(imagenet_wnids())}}
    return {**{str(i): i for i in range(len(names))}, **known}


def measure_official(
    classifier: Classifier, pictures: Split, *, batch_size: int = 16, workers: int = 2, progress: ProgressBar | None = None
) -> Accuracy:
    """Top-1 and top-5 of a classifier on labelled pictures; those that cannot be read are not counted, but named.

    Args:
        classifier: pictures in, logits out.
        pictures: their targets are places in the classifier's classes (`torchbcos.data.named.open_named`).
        batch_size: pictures at a time.
        workers: processes that read pictures.
        progress: wraps the batches, to show how far they are.

    Raises:
        InputError: none of the pictures can be read.
    """
    examples = Examples(pictures, classifier.transform)
    outputs = predict_split(
        classifier.model, examples, batch_size=batch_size, workers=workers, on_error="skip", progress=progress
    )  # fmt: skip
    found = judge(outputs, classifier.card.probability, metrics=[accuracy])
    top5 = found.get("top5", 100.0)  # of fewer than five classes, five guesses are all
    classes = len(set(pictures.targets.tolist()))
    return Accuracy(images=len(outputs.rows), classes=classes, top1=found["top1"], top5=top5, failed=outputs.failures)
