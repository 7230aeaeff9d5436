"""`torchbcos`: explain and predict pictures, list networks."""

from __future__ import annotations

import typer

from torchbcos.cli.explain import explain
from torchbcos.cli.models import models
from torchbcos.cli.predict import predict

app = typer.Typer(
    name="torchbcos",
    help="Image classifiers whose every decision is exactly a linear map of the input.",
    epilog="Example: torchbcos explain photo.jpg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(epilog="Example: torchbcos explain photos/ --top-k 2 --out explanations")(explain)
app.command(epilog="Example: torchbcos predict photo.jpg --top-k 3")(predict)
app.command(epilog="Example: torchbcos models 'resnet*'")(models)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
