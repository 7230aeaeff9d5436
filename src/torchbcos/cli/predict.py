"""`torchbcos predict`: classes and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from torchbcos._core.names import brief
from torchbcos.cli.common import (
    AllowCode,
    BatchSize,
    Device,
    DeviceOption,
    FitOption,
    Json,
    Model,
    Paths,
    RangeOption,
    Weights,
    parse_range,
    percent,
    remarks,
    tell,
    usage_errors,
)
from torchbcos.cli.stopping import answering_signals
from torchbcos.cli.walking import finish, gather, refuse_missing, walk

if TYPE_CHECKING:
    from torchbcos.cli.walking import Batch
    from torchbcos.zoo import Classifier
    from torchbcos.zoo.records import Record

__all__ = ["predict"]


def predict(
    paths: Paths,
    model: Model = "default",
    weights: Weights = None,
    allow_code: AllowCode = False,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", min=1, help="How many classes to name for each picture.")] = 5,
    fit: FitOption = None,
    number_range: RangeOption = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Classify pictures, signals and volumes: the most probable classes of each, without an explanation."""
    from torchbcos.zoo import load
    from torchbcos.zoo.records import predicted

    with answering_signals(), usage_errors():
        value_range = parse_range(number_range)
        refuse_missing(paths, as_json=json)
        classifier = load(model, weights=weights, device=device.value, fit=fit.value if fit else None, allow_code=allow_code)
        job = gather(paths, classifier, as_json=json)

        def work(classifier: Classifier, batch: Batch) -> list[Record]:
            files, pictures = [str(item.path) for item, _ in batch], [picture for _, picture in batch]
            return predicted(classifier, files, pictures, top_k=top_k)

        walk(job, classifier, batch_size, work, None if json else _print_record, value_range)
        finish(job, as_json=json)


def _print_record(record: Record) -> None:
    """One picture and its classes."""
    classes = ", ".join(f"{brief(p['label'])} {percent(p['probability'])}" for p in record["predictions"])
    tell(f"{record['file']}: {classes}{remarks(record)}")
