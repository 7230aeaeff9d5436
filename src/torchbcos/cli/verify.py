"""`torchbcos models --verify`: is a file the official one, and does it reach the number on its card?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchbcos.cli.common import print_json, say, shown, usage_errors

if TYPE_CHECKING:
    from torchbcos.zoo.card import Card
    from torchbcos.zoo.verify import Accuracy


def verify(
    name: str, *, weights: Path | None, data: Path | None, labels: Path | None, batch_size: int, device: str, json: bool
) -> None:
    """Check the hash of official weights, and their accuracy on labelled pictures.

    Leaves with 0 where all is as the card says, 1 where it is not or cannot be seen, 2 for a wrong request.
    """
    from torchbcos._core.errors import InputError, WeightsError
    from torchbcos.zoo.labels import read_labels
    from torchbcos.zoo.verify import find_official, make_classifier, measure

    with usage_errors():
        if labels is not None and data is None:
            raise InputError("--labels tells the classes of the pictures in --data FOLDER: give that, too.")
        try:
            card, path, digest = find_official(name, weights)
        except WeightsError as error:  # the request was right, the answer is no
            say(f"torchbcos: {error}")
            raise typer.Exit(1) from None
        record: dict[str, Any] = {"name": name, "file": str(path), "sha256": digest, "official": True}
        if not json:
            print(f"{name}: {path}")
            print(f"  hash: the official file, SHA-256 {digest}")
        accuracy = None
        if data is not None:
            pictures = read_labels(data, card, labels)
            classifier = make_classifier(card, path, device)

            def progress(batches: range) -> Iterable[int]:
                return shown(batches, len(batches), quiet=json)

            accuracy = measure(classifier, pictures, batch_size=batch_size, progress=progress)
            record.update(report(accuracy, card, data, quiet=json))
    if json:
        print_json([record])
    raise typer.Exit(1 if accuracy is not None and (accuracy.failed or record["agrees"] is False) else 0)


def report(accuracy: Accuracy, card: Card, data: Path, *, quiet: bool) -> dict[str, Any]:
    """Say the measured numbers beside the card's; the same for JSON, where "agrees" is null if they cannot be compared."""
    comparable = card.top1 is not None and accuracy.classes == len(card.class_names())
    away = accuracy.top1 - (card.top1 or 0.0)
    limit = accuracy.tolerance(card.top1 or 0.0)
    agrees = abs(away) <= limit if comparable else None
    for sentence in accuracy.failed:
        say(f"torchbcos: {sentence}")
    if not quiet:
        theirs = "none" if card.top1 is None else f"{card.top1:.2f} %"
        print(f"  top-1: {accuracy.top1:.2f} % of {accuracy.images:,} pictures; on the card: {theirs} ({card.measured})")
        if agrees is None:
            print(f"  The pictures show {accuracy.classes} of {len(card.class_names())} classes: not comparable with the card.")
        elif agrees:
            print(f"  They agree: {away:+.2f} points apart, and chance explains ±{limit:.2f}.")
    if agrees is False:
        say(
            f"torchbcos: {card.name} is {away:+.2f} points from its card, and chance explains ±{limit:.2f}: "
            f"are the labels of {str(data)!r} right, and is it the data that the card names ({card.measured})?"
        )
    return {
        "top1": accuracy.top1, "top5": accuracy.top5, "card_top1": card.top1, "card_top5": card.top5,
        "images": accuracy.images, "classes": accuracy.classes, "agrees": agrees, "failed": list(accuracy.failed),
    }  # fmt: skip
