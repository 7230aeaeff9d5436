"""`torchbcos calibrate`: the temperature with which a model's probabilities come true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchbcos._core.names import brief, quote
from torchbcos.cli.common import (
    AllowCode,
    BatchSize,
    Device,
    DeviceOption,
    FitOption,
    Model,
    RangeOption,
    SplitName,
    given_path,
    parse_range,
    print_json,
    say,
    shown,
    tell,
    usage_errors,
)
from torchbcos.cli.evaluate import Figure, RunWeights, UncertainOption, number
from torchbcos.cli.train import OnError

__all__ = ["calibrate"]


def calibrate(
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", parser=given_path,
            help="A folder of pictures for every class, shards, a table, or CIFAR-10.",
        ),
    ],
    model: Model = "default",
    weights: RunWeights = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", parser=given_path, show_default="none: the numbers alone",
            help="Write the model here, with the temperature in its card; every command takes this folder as --model.",
        ),
    ] = None,
    split: Annotated[
        SplitName,
        typer.Option(
            "--split",
            help="selection: what the run held out to choose by, or what a training would hold out; val and report are then no "
            "honest judges of calibration any more; train, all: if the network was not trained on them.",
        ),
    ] = SplitName.selection,
    figure: Figure = None,
    uncertain: UncertainOption = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Stop at files that cannot be read, or skip them.")
    ] = OnError.stop,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that read pictures.")] = 2,
    fit: FitOption = None,
    number_range: RangeOption = None,
    batch_size: BatchSize = 32,
    device: DeviceOption = Device.auto,
    allow_code: AllowCode = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the numbers as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Fit the temperature of a model: one number that divides its logits where they become probabilities.

    Classes keep their order, and logits and explanations stay as they are. 'torchbcos train' does this by itself, on the
    pictures that it held out to choose by; this command does it for a model that has no temperature, or for other data.
    """
    with usage_errors():
        from torchbcos.evaluation import calibrate_model, open_model
        from torchbcos.evaluation.destination import check_folder, keep_out_of
        from torchbcos.evaluation.diagram import check_figure, save_reliability
        from torchbcos.zoo import save

        if out is not None:
            check_folder(out)
            keep_out_of(data, out)
        if figure is not None:
            check_figure(figure)
        classifier = open_model(model, weights=weights, device=device.value, allow_code=allow_code, deploy=False)
        classifier = classifier.fitted(fit.value if fit else None)
        calibrated, found = calibrate_model(
            classifier, data, split=split.value, batch_size=batch_size, workers=workers, on_error=on_error.value,
            progress=None if json else shown, run=Path(model), value_range=parse_range(number_range),
            uncertain=uncertain.value if uncertain else None,
        )  # fmt: skip
        if out is not None:
            save(calibrated, out)
        if figure is not None:
            save_reliability(found["reliability"], figure)
    for note in found["notes"]:
        say(f"torchbcos: {note}")
    if json:
        print_json({**found, "out": None if out is None else str(out)})
    else:
        _tell(found, data, out)
    if found["unreadable"]:
        say(f"torchbcos: {len(found['unreadable'])} pictures could not be read, the first {quote(found['unreadable'][0])}.")
        raise typer.Exit(1)


def _tell(found: dict[str, Any], data: Path, out: Path | None) -> None:
    """What was found, and where it is now."""
    was = f" (its card had {found['was']:g})" if found["was"] is not None else ""
    where = f"{found['pictures']:,} pictures of {data} ({found['split']})"
    tell(f"{brief(found['model'])}: temperature {found['temperature']:g}{was}, fitted on {where}")
    for name, before in found["before"].items():
        tell(f"  {name} on these pictures: {number(name, before)} before, {number(name, found['after'][name])} with it")
    if out is not None:
        tell(f"  The model with it is in {out}.")
    else:
        tell("  Nothing was written: --out FOLDER writes the model with it.")
