"""`torchbcos verify`: does a proof hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchbcos.cli.common import (
    AllowCode,
    Device,
    DeviceOption,
    RangeOption,
    Weights,
    given_path,
    parse_range,
    print_json,
    tell,
    usage_errors,
)

__all__ = ["verify"]


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=given_path, help="A proof that 'torchbcos explain --proof' wrote.")
    ],
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", parser=given_path, help="The picture that was explained.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="SOURCE", show_default="the network that comes along and that the proof names",
            help="As 'torchbcos explain' takes it.",
        ),
    ] = None,
    weights: Weights = None,
    allow_code: AllowCode = False,
    double: Annotated[bool, typer.Option("--double", metavar="", help="Compute in float64, too.")] = False,
    number_range: RangeOption = None,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object.")] = False,
    device: DeviceOption = Device.auto,
) -> None:  # fmt: skip
    """Check the proof of an explanation.

    With a picture the explanation is computed anew; without one only the file itself is looked at: that finds a damaged file, and
    no forged one. Exit code 0: nothing differs; 1: something does; 2: it is no proof, or was changed.
    """
    from torchbcos.zoo.verifying import verify as verified

    with usage_errors():
        found = verified(
            file, model, picture, weights=weights, device=device.value, double=double, allow_code=allow_code,
            value_range=parse_range(number_range),
        )  # fmt: skip
    if json:
        print_json(found.to_dict())
    else:
        for line in str(found).splitlines():
            tell(line)
    raise typer.Exit(0 if found.agrees else 1)
