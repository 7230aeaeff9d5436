"""`torchbcos prune`: a smaller network that is as right, and looks at the same things."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchbcos._core.names import quote
from torchbcos.cli.common import (
    AllowCode,
    Device,
    DeviceOption,
    Model,
    given_path,
    percent,
    print_json,
    say,
    tell,
    usage_errors,
)

if TYPE_CHECKING:
    from torchbcos.search import Candidate, Pruned

__all__ = ["prune"]


class _Ranking(str, enum.Enum):
    """Which channels go first."""

    magnitude = "magnitude"
    contribution = "contribution"


class _Repair(str, enum.Enum):
    """What is done with the layers that read fewer channels."""

    least_squares = "least_squares"
    norms = "norms"
    none = "none"


def prune(
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", parser=given_path,
            help="Labelled pictures that the network was trained on: a folder for every class, shards, a table, or CIFAR-10.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", parser=given_path,
            help="Write the chosen model, all candidates and the front here. A search that was stopped goes on from this folder.",
        ),
    ],
    model: Model = "default",
    flops: Annotated[
        float, typer.Option("--flops", metavar="SHARE", help="The share of the operations that the chosen network may need.")
    ] = 0.5,
    evaluations: Annotated[
        int, typer.Option("--evaluations", metavar="N", min=4, help="Candidates that are built and judged.")
    ] = 100,
    population: Annotated[int, typer.Option("--population", metavar="N", min=4, help="Candidates in a generation.")] = 16,
    calibration: Annotated[
        int, typer.Option("--calibration", metavar="N", min=8, help="Pictures to which layers are fitted.")
    ] = 256,
    pictures: Annotated[int, typer.Option("--pictures", metavar="N", min=8, help="Others, by which candidates are judged.")] =
        300,
    grids: Annotated[
        int,
        typer.Option("--grids", metavar="N", min=0, help="2 x 2 grids by which localisation is judged, the third aim; 0: none."),
    ] = 60,
    repair: Annotated[
        _Repair,
        typer.Option(
            "--repair",
            help="least_squares: layers that read fewer channels are fitted anew; norms: only norms are estimated anew; none.",
        ),
    ] = _Repair.least_squares,
    ranking: Annotated[
        _Ranking,
        typer.Option(
            "--ranking", help="Which channels stay: those with large activations and weights, or those that contribute most."
        ),
    ] = _Ranking.magnitude,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of all that is drawn.")] = 0,
    device: DeviceOption = Device.auto,
    allow_code: AllowCode = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the result as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Prune a network by evolution: fewer operations, the right answers, and the same places that it looks at.

    Channels and heads inside blocks are cut, what reads them is fitted anew by least squares, and nothing is trained. Stopped or
    killed, it goes on where it was. Train what comes out: 'torchbcos train finetune --data DIR --set pretrained=OUT/model'.
    """
    with usage_errors(), _doing(evaluations) as told:
        from torchbcos.evaluation import open_model
        from torchbcos.search import prune_classifier

        classifier = open_model(model, device=device.value, allow_code=allow_code, deploy=False)
        found = prune_classifier(
            classifier, data, out, flops=flops, evaluations=evaluations, population=population, calibration=calibration,
            pictures=pictures, grids=grids, repair=repair.value, ranking=ranking.value, seed=seed, told=told,
        )  # fmt: skip
    if json:
        print_json({**found.to_dict(), "model": str(out / "model")})
    else:
        _tell(found, out)


@contextmanager
def _doing(evaluations: int) -> Iterator[Callable[[Candidate, int], None]]:
    """A bar where somebody watches; elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    every = max(1, evaluations // 10)
    with Progress(console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False) as bar:
        task = bar.add_task("candidates", total=evaluations)

        def told(one: Candidate, number: int) -> None:
            bar.update(task, completed=number)
            if not console.is_terminal and number % every == 0:
                say(f"torchbcos: {number} of {evaluations} candidates; the last: {_words(one)}.")

        yield told


def _words(one: Candidate) -> str:
    place = "" if one.localisation is None else f", localisation {percent(one.localisation)}"
    return f"{percent(one.flops, 0)} of the operations, accuracy {percent(one.accuracy)}{place}"


def _tell(found: Pruned, out: Path) -> None:
    tell(f"Given:  {_words(found.given)}")
    tell(f"Chosen: {_words(found.chosen)} (before any training; on pictures that it was chosen by)")
    for name, words in found.to_dict()["widths"].items():
        tell(f"  {name or 'the network':40} {words}")
    if found.left:
        tell(f"{len(found.left)} layers cannot be cut: a residual stream, mostly; {quote(out / 'front.json')} says why of each.")
    tell(f"All {len(found.search.candidates)} candidates and the front are in {quote(out)}, with a picture (front.png).")
    tell(f"Now train it: torchbcos train finetune --data DIR --set pretrained={quote(out / 'model')}")
