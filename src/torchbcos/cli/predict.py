"""`torchbcos predict`: classes and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos.cli.common import (
    BatchSize,
    Device,
    DeviceOption,
    Json,
    Model,
    Paths,
    predictions_of,
    print_json,
    usage_errors,
    walk,
)

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.data import Found


def predict(
    paths: Paths,
    model: Model = "default",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Classes for each picture.")] = 5,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Classify pictures."""
    from torchbcos.zoo import load

    with usage_errors():
        classifier = load(model, device=device.value)

        def work(found: list[Found], pictures: list[Image.Image]) -> list[dict[str, Any]]:
            rows = classifier.predict(pictures, top_k=top_k, batch_size=len(pictures))
            records = []
            for item, row in zip(found, rows, strict=True):
                records.append(
                    {"file": str(item.path), "error": None, "predictions": predictions_of(row), "explanations": []}
                )
                if not json:
                    print(f"{item.path}: " + ", ".join(f"{p.label} {p.probability:.1%}" for p in row))
            return records

        records, failed = walk(paths, batch_size, work, quiet=json)
    if json:
        print_json(records)
    raise typer.Exit(1 if failed else 0)
