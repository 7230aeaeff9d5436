"""Verification: is this the official file, and does it reach the accuracy that its card names?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from torchbcos._core.errors import BcosError, InputError, MissingFileError, WeightsError
from torchbcos.pictures import read_image
from torchbcos.zoo.card import Card, official_card
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.load import embedded_names, from_card, pick_device
from torchbcos.zoo.store import fetch, fill, hash_file, read_weights

LEAST_TOLERANCE = 0.1  # points: other JPEG decoders and other hardware


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often a classifier was right on labelled pictures.

    Attributes:
        images: pictures that could be read; failed: one sentence for each that could not.
        classes: how many classes they show.
        correct, correct5: pictures whose class is the highest, or among the five highest.
    """

    images: int
    classes: int
    correct: int
    correct5: int
    failed: tuple[str, ...] = ()

    @property
    def top1(self) -> float:
        """In percent."""
        return 100 * self.correct / self.images

    @property
    def top5(self) -> float:
        """In percent."""
        return 100 * self.correct5 / self.images

    def tolerance(self, expected: float) -> float:
        """Points of top-1 that chance explains: three standard errors of a sample of this size."""
        p = min(max(expected / 100, 0.0), 1.0)
        return max(LEAST_TOLERANCE, 300 * math.sqrt(p * (1 - p) / self.images))


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
    network = from_card(card, {})
    fill(network, read_weights(path), where=path.name)
    return Classifier(network.eval().to(pick_device(device)), card)


def measure(
    classifier: Classifier,
    pictures: Sequence[tuple[Path, int]],
    *,
    batch_size: int = 16,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Accuracy:
    """Top-1 and top-5 of a classifier on labelled pictures; those that cannot be read are counted out and named.

    Args:
        classifier: pictures in, logits out.
        pictures: (file, class index) each.
        batch_size: pictures at a time.
        progress: wraps the range of batches, as `rich.progress.track` does.

    Raises:
        InputError: none of the pictures can be read.
    """
    images = correct = correct5 = 0
    failed: list[str] = []
    for start in progress(range(0, len(pictures), batch_size)):
        inputs, truth = [], []
        for path, index in pictures[start : start + batch_size]:
            try:
                inputs.append(classifier.preprocess(read_image(path)))
            except BcosError as error:
                failed.append(str(error))
                continue
            truth.append(index)
        if not inputs:
            continue
        with torch.no_grad():
            outputs = classifier.model(torch.cat(inputs))
        best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices.cpu()
        hits = best == torch.tensor(truth)[:, None]
        images += len(truth)
        correct += int(hits[:, 0].sum())
        correct5 += int(hits.any(dim=1).sum())
    if not images:
        raise InputError(f"None of the {len(pictures)} pictures can be read; the first: {failed[0]}")
    classes = len({index for _, index in pictures})
    return Accuracy(images=images, classes=classes, correct=correct, correct5=correct5, failed=tuple(failed))
