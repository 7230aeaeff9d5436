"""`torchbcos check`: is a weights file the official one, and does it reach the number on its card?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos.cli.common import BatchSize, Device, DeviceOption, given_path, print_json, say, shown, tell, usage_errors
from torchbcos.cli.completing import model_names

if TYPE_CHECKING:
    from torchbcos.evaluation.official import Accuracy
    from torchbcos.zoo.card import Card

__all__ = ["check", "check_weights"]


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A network with official weights ('torchbcos models' lists them).", autocompletion=model_names
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", parser=given_path, help="The file, downloaded elsewhere.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FOLDER", parser=given_path,
            help="Measure top-1 here, too. A subfolder a class (wnid, name or index), or one folder and a CSV file.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="CSV", parser=given_path, help="With --data: a line a picture, its file and its class."
        ),
    ] = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print a JSON list with one record.")] = False,
) -> None:  # fmt: skip
    """Check the hash of official weights, and their accuracy on labelled pictures.

    Weights that are not here are downloaded once. Exit code 0: all is as the card says; 1: it is not, or cannot be seen.
    """
    code = check_weights(name, weights=weights, data=data, labels=labels, batch_size=batch_size, device=device.value, json=json)
    raise typer.Exit(code)


def check_weights(
    name: str, *, weights: Path | None, data: Path | None, labels: Path | None, batch_size: int, device: str, json: bool
) -> int:
    """Check, print, and return the exit code: 0 or 1; a wrong request leaves with 2 at once."""
    from torchbcos._core.errors import InputError, WeightsError
    from torchbcos.data.named import open_named
    from torchbcos.evaluation.official import find_official, make_classifier, measure_official, names_of

    with usage_errors():
        if labels is not None and data is None:
            raise InputError("--labels gives the classes of the pictures in --data FOLDER: give that, too.")
        try:
            card, path, digest = find_official(name, weights)
        except WeightsError as error:  # the request was right, the answer is no
            say(f"torchbcos: {error}")
            return 1
        record: dict[str, Any] = {"name": name, "file": str(path), "sha256": digest, "official": True}
        if not json:
            tell(f"{name}: {path}")
            tell(f"  hash: the official file, SHA-256 {digest}")
        good = True
        if data is not None:
            notes: list[str] = []
            pictures = open_named(data, names_of(card), labels, notes=notes)
            for note in notes:
                say(f"torchbcos: {note}")
            classifier = make_classifier(card, path, device)
            accuracy = measure_official(classifier, pictures, batch_size=batch_size, progress=None if json else shown)
            good = _report(accuracy, card, data, quiet=json)
            record.update(_record_of(accuracy, card))
    if json:
        print_json([record])
    return 0 if good else 1


def _report(accuracy: Accuracy, card: Card, data: Path, *, quiet: bool) -> bool:
    """Say the measured numbers beside the card's; whether there is nothing to complain about."""
    agrees = accuracy.agrees(card)
    for sentence in accuracy.failed:
        say(f"torchbcos: {sentence}")
    away, limit = accuracy.top1 - (card.top1 or 0.0), accuracy.tolerance(card.top1 or 0.0)
    if not quiet:
        theirs = "none" if card.top1 is None else f"{card.top1:.2f} %"
        tell(f"  top-1: {accuracy.top1:.2f} % of {accuracy.images:,} pictures; on the card: {theirs} ({card.measured})")
        if agrees is None:
            tell(f"  The pictures show {accuracy.classes} of {len(card.class_names())} classes: not comparable with the card.")
        elif agrees:
            tell(f"  They agree: {away:+.2f} points apart; samples of this size differ by up to {limit:.2f}.")
    if agrees is False:
        say(
            f"torchbcos: {card.name} is {away:+.2f} points from its card, and samples of this size differ by up to {limit:.2f}: "
            f"are the labels of {str(data)!r} right, and is it the data that the card names ({card.measured})?"
        )
    return agrees is not False and not accuracy.failed


def _record_of(accuracy: Accuracy, card: Card) -> dict[str, Any]:
    """The numbers for JSON; "agrees" is null where they cannot be compared."""
    return {
        "top1": accuracy.top1, "top5": accuracy.top5, "card_top1": card.top1, "card_top5": card.top5,
        "images": accuracy.images, "classes": accuracy.classes, "agrees": accuracy.agrees(card), "failed": list(accuracy.failed),
    }  # fmt: skip
