"""`torchbcos`: explain and predict pictures; list, check, train and measure networks."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from torchbcos import __version__
from torchbcos.cli.bcosify import bcosify
from torchbcos.cli.calibrate import calibrate
from torchbcos.cli.check import check
from torchbcos.cli.common import tell
from torchbcos.cli.compare import compare
from torchbcos.cli.evaluate import evaluate
from torchbcos.cli.explain import explain
from torchbcos.cli.export import export
from torchbcos.cli.models import models
from torchbcos.cli.predict import predict
from torchbcos.cli.program import HELP, Command, Program
from torchbcos.cli.prune import prune
from torchbcos.cli.report import report
from torchbcos.cli.serve import serve
from torchbcos.cli.train import train
from torchbcos.cli.verify import verify

__all__ = ["app", "main", "program"]

app = typer.Typer(
    name="torchbcos",
    cls=Program,
    help="Image classifiers whose every decision is exactly a linear map of the input.",
    epilog="Example: torchbcos explain photo.jpg",
    context_settings=HELP,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        tell(f"torchbcos {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Image classifiers whose every decision is exactly a linear map of the input."""


app.command(
    cls=Command,
    epilog="Examples: torchbcos explain photo.jpg; torchbcos explain photos/ --top-k 2 --out explanations; torchbcos explain "
    "photo.jpg --model torchvision:resnet18 --weights resnet18.pth",
)(explain)
app.command(
    cls=Command, epilog="Examples: torchbcos predict photo.jpg --top-k 3; torchbcos predict photo.jpg --model timm:resnet18"
)(predict)
app.command(cls=Command, epilog="Examples: torchbcos models; torchbcos models 'resnet*'")(models)
app.command(cls=Command, epilog="Examples: torchbcos check resnet50; torchbcos check resnet50 --data imagenet/val")(check)
app.command(cls=Command, epilog="Example: torchbcos train folder --data my-photos --out runs/mine --set epochs=20")(train)
app.command(
    cls=Command,
    epilog="Examples: torchbcos calibrate --model runs/mine --data my-photos --out calibrated; torchbcos calibrate --model "
    "timm:resnet18 --weights resnet18.pth --data my-photos --split val",
)(calibrate)
app.command(
    cls=Command,
    epilog="Examples: torchbcos export --model runs/mine -o why.onnx; torchbcos export --model timm:resnet18 -o why.onnx",
)(export)
app.command(
    cls=Command,
    epilog="Examples: torchbcos bcosify timm:resnet18 --example photos/ -o mine; torchbcos bcosify torchvision:resnet18 "
    "--weights resnet18.pth --b expand=1.5 --b classifier=2 -o mine; torchbcos explain photo.jpg --model mine",
)(bcosify)
app.command(
    cls=Command,
    epilog="Examples: torchbcos prune --data my-photos --model runs/mine -o smaller; torchbcos prune --data my-photos -o smaller "
    "--flops 0.4 --grids 0",
)(prune)
app.add_typer(evaluate)
app.command(
    cls=Command,
    epilog="Example: torchbcos compare --data my-photos --models mine=runs/mine,plain=runs/plain --methods quick --budget 10m",
)(compare)
app.command(
    cls=Command,
    epilog="Examples: torchbcos serve; torchbcos serve --model mine=runs/mine/model --model imagenet --port 9000",
)(serve)
app.command(cls=Command, epilog="Example: torchbcos report my-photos -o why.html")(report)
app.command(cls=Command, epilog="Example: torchbcos verify bus.proof.json --picture bus.jpg")(verify)


def main() -> None:
    """Run the command line."""
    # Threads that spin while they wait for each other cost seconds where other programs keep the cores busy
    # (docs/explanation/start-up.md). Whoever has set it keeps it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


if __name__ == "__main__":
    main()
