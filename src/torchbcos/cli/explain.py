"""`torchbcos explain`: pictures of why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos._core.errors import BcosError
from torchbcos.cli.common import (
    BatchSize,
    Device,
    DeviceOption,
    Json,
    Model,
    Paths,
    empty_record,
    predictions_of,
    print_json,
    say,
    usage_errors,
    walk,
)

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.data import Found
    from torchbcos.explanation import Explanation
    from torchbcos.zoo import Classifier


def explain(
    paths: Paths,
    model: Model = "default",
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("explanations"),
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Explain this many of the highest classes.")] = 1,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME|INDEX", help="Explain this class; may be repeated.")
    ] = None,
    contrast: Annotated[
        str | None, typer.Option("--contrast", metavar="NAME|INDEX", help="Explain the class rather than this one.")
    ] = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Explain pictures exactly, and write a panel for each explained class."""
    from torchbcos.zoo import load

    with usage_errors():
        classifier = load(model, device=device.value)
        targets = [classifier.class_index(c) for c in classes] if classes else None
        other = classifier.class_index(contrast) if contrast is not None else None
        if top_k > len(classifier.class_names):
            say(f"torchbcos: --top-k {top_k} is more than the {len(classifier.class_names)} classes of this model.")
            raise typer.Exit(2)
        if not json:
            announce(classifier)

        def work(found: list[Found], pictures: list[Image.Image]) -> list[dict[str, Any]]:
            rows = None if targets is None else [targets] * len(pictures)
            e = classifier.explain(pictures, rows, top_k=top_k, contrast=other, batch_size=len(pictures))
            records = []
            for i, item in enumerate(found):
                try:
                    records.append(write(classifier, e[i], item, out))
                except BcosError as error:
                    say(f"torchbcos: {error}")
                    records.append(empty_record(str(item.path), str(error)))
                if not json and not records[-1]["error"]:
                    print_record(records[-1])
            return records

        records, failed = walk(paths, batch_size, work, quiet=json)
    if json:
        print_json(records)
    raise typer.Exit(1 if failed else 0)


def write(classifier: Classifier, e: Explanation, found: Found, out: Path) -> dict[str, Any]:
    """Write the panels of one picture; its record."""
    explanations = e.to_dict()["explanations"][0]
    for k, record in enumerate(explanations):
        name = record["label"].replace("/", "-").replace(" ", "-")
        if "contrast" in record:
            name += "-not-" + record["contrast"]["label"].replace("/", "-").replace(" ", "-")
        target = out / found.relative.parent / f"{found.relative.name}.{name}.png"
        make_folder(target.parent)
        e.save(target, 0, k)
        record["picture"] = str(target)
    predictions = predictions_of(classifier.predictions(e.outputs)[0])
    return {"file": str(found.path), "error": None, "predictions": predictions, "explanations": explanations}


def make_folder(folder: Path) -> None:
    """Create a folder for pictures, or say why not."""
    from torchbcos._core.errors import StateError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"Could not create the folder {str(folder)!r}: {error.strerror}.") from None


def announce(classifier: Classifier) -> None:
    """Which model answers, and what it knows."""
    names = classifier.class_names
    known = ", ".join(names) if len(names) <= 12 else f"{len(names)} classes"
    print(f"{classifier.card.name} knows {len(names)} classes: {known}" if len(names) <= 12 else
          f"{classifier.card.name}: {known}")  # fmt: skip


def print_record(record: dict[str, Any]) -> None:
    """One picture in two lines or more."""
    best = ", ".join(f"{p['label']} {p['probability']:.0%}" for p in record["predictions"][:3])
    print(f"{record['file']}: {best}")
    for e in record["explanations"]:
        share = "–" if e["share"] is None else f"{e['share']:.1%}"
        print(f"  {e['label']}: pixels carry {share} of the logit, residual {e['residual']:.0e} -> {e['picture']}")


