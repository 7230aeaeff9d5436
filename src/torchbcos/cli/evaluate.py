"""`torchbcos evaluate`: measurements on labelled data."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
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
from torchbcos.cli.compare import METRIC_NAMES, metric_command
from torchbcos.cli.places import check_page, write_page
from torchbcos.cli.program import Command, Group
from torchbcos.cli.train import OnError

__all__ = ["Figure", "RunWeights", "Uncertain", "UncertainOption", "accuracy", "evaluate", "group", "number"]

_EXAMPLE = (
    "Examples: torchbcos evaluate accuracy --model runs/mine --data my-photos --out accuracy.json; torchbcos evaluate accuracy "
    "--model timm:resnet18 --weights resnet18.pth --data my-photos; torchbcos evaluate --list"
)
evaluate = typer.Typer(
    name="evaluate", cls=Group, help="Measure a model on labelled data.", add_completion=False, pretty_exceptions_enable=False,
    epilog=_EXAMPLE,
)  # fmt: skip


class Uncertain(str, enum.Enum):
    """What a label of -1 means."""

    error = "error"
    ignore = "ignore"
    positive = "positive"
    negative = "negative"


RunWeights = Annotated[
    str,
    typer.Option(
        "--weights", metavar="auto|ema|last|best|FILE",
        help="Of a run's folder: averaged, last or best weights; or a file of weights for the network that --model names.",
    ),
]  # fmt: skip
UncertainOption = Annotated[
    Uncertain | None,
    typer.Option(
        "--uncertain", show_default="as the model was trained",
        help="What a label of -1 in a table means: not known, 1, or 0; error refuses it.",
    ),
]  # fmt: skip
Figure = Annotated[
    Path | None,
    typer.Option(
        "--figure", metavar="FILE", parser=given_path, show_default="none",
        help="Draw the reliability diagram into this picture (.png, .jpg, .pdf): how sure answers were, and how often right.",
    ),
]  # fmt: skip


_PageOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", parser=given_path, show_default="none", help="Write all this as a page, too."),
]

_CALLED = {"top1": "top1", "top5": "top5", "map": "map", "f1": "f1 at 0.5", "ece": "ece", "loss": "loss"}
_MOST_LABELS = 40  # lines of the table


def number(name: str, value: float | None) -> str:
    """A measured number in words, or a dash where it is not defined."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}{'' if name == 'loss' else ' %'}"


def _label_lines(labels: list[dict[str, Any]]) -> Iterator[str]:
    """A table of the labels, a line each."""
    if not labels:
        return
    width = max(5, *(len(brief(one["label"])) for one in labels[:_MOST_LABELS]))
    yield f"{'label':{width}}  {'average precision':>17}  {'f1 at 0.5':>9}  {'holds for':>9}  {'known of':>8}"
    for one in labels[:_MOST_LABELS]:
        ap, f1 = (number(key, one[key]) for key in ("ap", "f1"))
        yield f"{brief(one['label']):{width}}  {ap:>17}  {f1:>9}  {one['positive']:>9,}  {one['known']:>8,}"
    if labels[_MOST_LABELS:]:
        yield f"… and {len(labels) - _MOST_LABELS:,} more labels, which --json names."


_BAR, _FEW = 20, 100  # letters of a bar; answers, fewer of which say nothing bin by bin


def _reliability_lines(bins: list[dict[str, Any]]) -> Iterator[str]:
    """The reliability diagram as text: a line a bin that has answers; the bar is how many came true, | is what was said."""
    found = [one for one in bins if one["count"]]
    if sum(one["count"] for one in found) < _FEW:
        return
    yield f"{'sure to':>9}  {'right':>7}  {'said | right #':{_BAR}}  {'answers':>9}"
    for one in found:
        said = min(int(one["confidence"] * _BAR), _BAR - 1)
        bar = "#" * round(one["accuracy"] * _BAR)
        bar = f"{bar:{_BAR}}"
        bar = f"{bar[:said]}|{bar[said + 1 :]}"
        yield f"{one['confidence']:>9.1%}  {one['accuracy']:>7.1%}  {bar}  {one['count']:>9,}"


@evaluate.callback(invoke_without_command=True)
def group(
    context: typer.Context,
    list_all: Annotated[
        bool,
        typer.Option(
            "--list", metavar="",
            help="List the methods and the metrics: what each is, needs and costs, and what it was checked against.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="With --list: print one JSON object with both lists.")] = False,
) -> None:  # fmt: skip
    """Measure a model on labelled data."""
    if list_all:
        _list_all(json=json)
        raise typer.Exit
    if json:
        context.fail("--json stands behind the measurement ('torchbcos evaluate accuracy … --json') or beside --list")
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


def _list_all(*, json: bool) -> None:
    """Two tables, or one object of two lists."""
    with usage_errors():
        from torchbcos.evaluation.listing import list_methods, list_metrics

        found = {"methods": list_methods(), "metrics": list_metrics()}
    if json:
        print_json(found)
        return
    from torchbcos.cli.listing import tell_table

    methods = [{**one, "maps": _maps_of(one)} for one in found["methods"]]
    tell_table("method", methods, {"maps": "maps", "needs": "needs", "cost": "passes", "verified": "checked against"})
    tell("")
    metrics = {"best": "best", "needs": "needs", "cost": "passes", "verified": "checked against"}
    tell_table("metric", found["metrics"], metrics)
    say("predict: a function from pictures to scores; explain: from pictures to maps; passes: through the network, an image.")
    say("What each number does not see: docs/explanation/metrics.md. --json prints all that is known of each.")


def _maps_of(method: dict[str, Any]) -> str:
    """What the maps of a method are, in words."""
    said = ["signed" if method["signed"] else "without signs"]
    said += [f"sum to {method['complete']}"] if method["complete"] else []
    said += [] if method["class_specific"] else ["the same for every class"]
    return ", ".join(said)


@evaluate.command(cls=Command, epilog=_EXAMPLE)
def accuracy(
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", parser=given_path,
            help="A folder of pictures for every class, shards, a table, or CIFAR-10.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="SOURCE", show_default="imagenet",
            help="A model as 'torchbcos explain' takes it, or the folder of a run.",
        ),
    ] = "default",
    allow_code: AllowCode = False,
    weights: RunWeights = "auto",
    split: Annotated[
        SplitName,
        typer.Option("--split", help="val: the data's own, what the run held out, or all; selection, report: of a run."),
    ] = SplitName.val,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", parser=given_path, help="Write JSON here; an interrupted measurement goes on."
        ),
    ] = None,
    figure: Figure = None,
    report: _PageOption = None,
    uncertain: UncertainOption = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Stop at files that cannot be read, or skip them.")
    ] = OnError.stop,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that read pictures.")] = 2,
    fit: FitOption = None,
    number_range: RangeOption = None,
    batch_size: BatchSize = 32,
    device: DeviceOption = Device.auto,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the numbers as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Top-1, top-5 and calibration; for several labels a picture, mean average precision and F1."""
    with usage_errors():
        from torchbcos.evaluation import measure_accuracy, open_model
        from torchbcos.evaluation.diagram import check_figure, save_reliability

        if figure is not None:
            check_figure(figure)
        if report is not None:
            check_page(report)
        classifier = open_model(model, weights=weights, device=device.value, allow_code=allow_code)
        classifier = classifier.fitted(fit.value if fit else None)
        result = measure_accuracy(
            classifier, data, split=split.value, batch_size=batch_size, workers=workers, on_error=on_error.value, out=out,
            progress=None if json else shown, run=Path(model), value_range=parse_range(number_range),
            uncertain=uncertain.value if uncertain else None,
        )  # fmt: skip
        if figure is not None:
            save_reliability({brief(result["model"]): result["reliability"]}, figure)
        if report is not None:
            from torchbcos.viewer import accuracy_page

            write_page(report, accuracy_page(result, f"Accuracy of {brief(result['model'])}"))
    if json:
        print_json(result)
    else:
        words = ", ".join(f"{called} {number(name, result[name])}" for name, called in _CALLED.items() if name in result)
        for note in result["notes"]:
            say(f"torchbcos: {note}")
        tell(f"{brief(result['model'])} on {result['pictures']} pictures of {data} ({result['split']}): {words}")
        for line in (*_label_lines(result.get("labels", [])), *_reliability_lines(result["reliability"])):
            tell(line)
        if "not_finite" in result:
            say(f"torchbcos: for {result['not_finite']} pictures the network gave NaN or infinity: nothing can be measured.")
        if "labels_without_examples" in result:
            lost = result["labels_without_examples"]
            hold = "label holds" if lost == 1 else "labels hold"
            say(f"torchbcos: {lost} {hold} for none of these pictures: left out of map and f1.")
    if result["unreadable"]:
        say(f"torchbcos: {len(result['unreadable'])} pictures could not be read, the first {quote(result['unreadable'][0])}.")
        raise typer.Exit(1)


for _name in METRIC_NAMES:
    evaluate.command(
        _name, cls=Command,
        epilog=f"Example: torchbcos evaluate {_name} --data my-photos --methods inherent,ixg,grad_cam --limit 50",
    )(metric_command(_name))  # fmt: skip
