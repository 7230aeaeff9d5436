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
    finish,
    gather,
    predictions_of,
    usage_errors,
    walk,
)

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.pictures import Found


def predict(
    paths: Paths,
    model: Model = "default",
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", min=1, help="How many classes to name for each picture.")] = 5,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Classify pictures: the most probable classes of each, without an explanation."""
    from torchbcos.zoo import load

    with usage_errors():
        found, missing = gather(paths, as_json=json)
        classifier = load(model, device=device.value)

        def work(batch: list[Found], pictures: list[Image.Image]) -> list[dict[str, Any]]:
            rows = classifier.predict(pictures, top_k=top_k, batch_size=len(pictures))
            records = []
            for item, row in zip(batch, rows, strict=True):
                records.append({"file": str(item.path), "error": None, "predictions": predictions_of(row), "explanations": []})
                if not json:
                    print(f"{item.path}: " + ", ".join(f"{p.label} {p.probability:.1%}" for p in row))
            return records

        records = walk(found, batch_size, work, quiet=json)
    finish(records, missing, as_json=json)
