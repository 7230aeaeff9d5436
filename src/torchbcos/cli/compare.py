"""`torchbcos compare`, and `torchbcos evaluate METRIC`: which explanation to trust, and how sure that is."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from torchbcos.cli.common import (
    MACHINE,
    AllowCode,
    Device,
    DeviceOption,
    SplitName,
    given_path,
    print_json,
    shown,
    usage_errors,
)
from torchbcos.cli.compared import tell_comparison
from torchbcos.cli.scaling import Devices, EngineName, EngineOption, Nodes, one_voice, start

__all__ = ["METRIC_NAMES", "compare", "metric_command", "seconds"]

# the metrics that compare methods on items, and what they are, as `torchbcos.metrics.METRICS` has it: --help must not load it
METRIC_NAMES = {
    "grid-pointing": "Share of the positive evidence for a picture's class that lies in this picture's cell of a grid.",
    "difull": "Grid pointing where every cell goes through the network alone: nothing else is connected, and evidence there is "
    "wrong.",
    "dipart": "Grid pointing where features are those of the whole grid, and pooling and classifier are a cell's own.",
    "energy-pointing": "Share of the positive evidence that lies on the object.",
    "map-iou": "Intersection over union of the object and the pixels where the map is high.",
    "pointing-hit": "Whether the highest pixel of the map lies on the object.",
    "deletion": "Area under the score while the most important pixels go.",
    "insertion": "Area under the score while the most important pixels come, on the blurred picture.",
    "single-deletion": "Spearman's correlation, over 4 x 4 cells, of the map's sum and of the score's drop without the cell.",
    "idsds": "Single deletion of a network that was fine-tuned to pictures with a deleted cell.",
    "road": "Half the mean distance of two scores: the least, and the most important pixels imputed (10 to 90 %).",
    "sensitivity-n": "Pearson's correlation, over random subsets of n pixels, of their contributions' sum and of the drop.",
    "infidelity": "Mean squared error of what weights say of a perturbation, I·Φ, against what it does.",
    "max-sensitivity": "The largest relative change of the map under noise that nobody sees.",
    "residual": "What a map's sum and the constants leave of the logit, relative to the logit.",
    "randomisation": "How similar maps stay while the layers of the network lose their training, one after the other.",
    "label-sensitivity": "How much the map of a class is that of another class, too.",
    "gini": "How unequally a map's magnitudes are spread over its pixels.",
    "entropy": "Entropy, in nats, of a map's magnitudes as shares of their sum.",
}
_ITEMS = "What is measured"


_Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", parser=given_path,
        help="A folder of pictures for every class, shards, a table, or CIFAR-10; boxes.csv or masks/ beside them for metrics "
        "that ask where the object is.",
    ),
]  # fmt: skip
_Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--methods", metavar="LIST", show_default="quick",
        help="Names with commas, settings after colons: inherent,ixg,rise:samples=128,grad_cam. quick: what takes seconds a "
        "picture; all: every method that fits the models. Both with maps that know no network (random, centre, edges, "
        "brightness): 'torchbcos evaluate --list' names all.",
    ),
]  # fmt: skip
_Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="SOURCE", show_default="imagenet",
        help="A model as 'torchbcos explain' takes it, or the folder of a run.",
    ),
]  # fmt: skip
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the metric; a wrong name is told all of them."),
]
_SplitOption = Annotated[
    SplitName, typer.Option("--split", rich_help_panel=_ITEMS, help="val: the data's own, what the run held out, or all.")
]
_Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, rich_help_panel=_ITEMS, help="Grids, and pictures, at most.")]
_LimitPictures = Annotated[
    int | None,
    typer.Option(
        "--limit-pictures", metavar="N", min=1, show_default="as --limit", rich_help_panel=_ITEMS,
        help="Pictures at most, of metrics on single pictures (deletion, …): a curve takes longer than a grid.",
    ),
]  # fmt: skip
_Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="TIME", rich_help_panel=_ITEMS, help="Draw fewer samples and pictures, to be done in 90s, 10m or 2h."
    ),
]
_Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol", metavar="NAME", rich_help_panel=_ITEMS,
        help="Measure as published: bcos-v2, coda, difull, probe, rise, idsds (docs/explanation/protocols.md).",
    ),
]  # fmt: skip


class _Targets(str, enum.Enum):
    """Which class is explained."""

    label = "label"
    predicted = "predicted"


_TargetsOption = Annotated[
    _Targets,
    typer.Option(
        "--targets", rich_help_panel=_ITEMS,
        help="label: the class of the data, of pictures that all models get right; predicted: each model's own first class, for "
        "pictures without labels, or with classes that a model does not know.",
    ),
]  # fmt: skip
_Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence", metavar="P", min=0, max=1, show_default="0.5, or the protocol's", rich_help_panel=_ITEMS,
        help="Take pictures of whose class every model is surer than this.",
    ),
]  # fmt: skip
_Cell = Annotated[
    int | None,
    typer.Option(
        "--cell", metavar="PIXELS", min=1, show_default="as the smallest of the models' pictures", rich_help_panel=_ITEMS,
        help="Side of a cell of a grid: 80 is four times as fast as 160.",
    ),
]  # fmt: skip
_Size = Annotated[
    int | None,
    typer.Option(
        "--size", metavar="PIXELS", min=1, show_default="as each model's card says", rich_help_panel=_ITEMS,
        help="Side of a picture.",
    ),
]  # fmt: skip
_Rescale = Annotated[
    bool,
    typer.Option(
        "--rescale", metavar="", rich_help_panel=_ITEMS,
        help="Shrink cells so that a grid is as large as a picture: for models that take one size, and transformers.",
    ),
]  # fmt: skip
_Seed = Annotated[int, typer.Option("--seed", metavar="N", rich_help_panel=_ITEMS, help="Of everything that is drawn.")]
_Maps = Annotated[
    Path | None,
    typer.Option(
        "--maps", metavar="DIR", parser=given_path, rich_help_panel=_ITEMS,
        help="Maps of another library as one more method: <path of the picture>.<class index>.npy, each (H, W).",
    ),
]  # fmt: skip
_Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", parser=given_path, help="Where page, tables, JSON and the cache of maps go."),
]
_Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", metavar="DIR", parser=given_path, show_default="OUT/maps",
        help="Maps that were computed before: a new metric reuses them, an interrupted command goes on.",
    ),
]  # fmt: skip
_BatchSize = Annotated[
    int,
    typer.Option("--batch-size", metavar="N", min=1, rich_help_panel=MACHINE, help="Pictures whose maps are computed together."),
]
_Workers = Annotated[int, typer.Option("--workers", metavar="N", min=0, rich_help_panel=MACHINE, help="Processes that read.")]
_Json = Annotated[bool, typer.Option("--json", metavar="", help="Print the comparison as one JSON object.")]


def compare(
    data: _Data,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models", "--model", metavar="LIST", show_default="imagenet",
            help="Models as 'torchbcos explain' takes them, with commas, each with a name of yours before it if you like: "
            "plain=runs/plain/model,bcos=imagenette.",
        ),
    ] = None,
    methods: _Methods = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", metavar="LIST", show_default="grid-pointing,single-deletion,deletion",
            help="Names with commas, settings after colons: grid-pointing:n=3,deletion:first=least.",
        ),
    ] = None,
    split: _SplitOption = SplitName.val,
    limit: _Limit = 100,
    limit_pictures: _LimitPictures = None,
    budget: _Budget = None,
    protocol: _Protocol = None,
    targets: _TargetsOption = _Targets.label,
    confidence: _Confidence = None,
    cell: _Cell = None,
    size: _Size = None,
    rescale: _Rescale = False,
    seed: _Seed = 0,
    maps: _Maps = None,
    out: _Out = Path("evaluation"),
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the files in OUT are called.")] = "compare",
    cache: _Cache = None,
    allow_code: AllowCode = False,
    device: DeviceOption = Device.auto,
    batch_size: _BatchSize = 1,
    workers: _Workers = 0,
    devices: Devices = None,
    nodes: Nodes = 1,
    engine: EngineOption = EngineName.torchrun,
    json: _Json = False,
) -> None:  # fmt: skip
    """Compare explanation methods on one or more models: medians, intervals, paired tests, and what each metric does not see.

    The same pictures for all models, which all of them get right. OUT holds a page to open, tables (CSV, Markdown) and JSON.
    """
    _compare(
        _listed(models) or ["default"], _listed(metrics) or ["grid-pointing", "single-deletion", "deletion"], data, methods,
        out=out, name=name, cache=cache, maps=maps, budget=budget, device=device, allow_code=allow_code, json=json,
        split=split, limit=limit, limit_pictures=limit_pictures, protocol=protocol, confidence=confidence, cell=cell,
        size=size, rescale=rescale, targets=targets, seed=seed, batch_size=batch_size, workers=workers,
        devices=devices, nodes=nodes, engine=engine,
    )  # fmt: skip


def metric_command(metric: str) -> Callable[..., None]:
    """`torchbcos evaluate METRIC`, for one metric: the options of `compare`, with one model, and settings of the metric."""
    options = dict(inspect.signature(compare, eval_str=True).parameters)
    for name, annotation, default in (("models", _Model, "default"), ("metrics", _Settings, None)):
        options[name] = inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
    del options["name"]

    def command(*, models: str, metrics: list[str] | None, **given: Any) -> None:
        _compare([models], [":".join([metric, *(metrics or [])])], name=metric, **given)

    command.__dict__["__signature__"] = inspect.Signature(list(options.values()))
    command.__annotations__ = {}
    command.__doc__ = f"""{METRIC_NAMES[metric]}

    Of several explanation methods on one model, on the same pictures; OUT holds a page to open, tables and JSON.
    """
    return command


def _compare(
    models: list[str], metrics: list[str], data: Path, methods: list[str] | None, *, out: Path, name: str, budget: str | None,
    json: bool, engine: EngineName, devices: str | None, nodes: int, **options: Any,
) -> None:  # fmt: skip
    """Measure, write and tell; options are those of the command, by name."""
    with usage_errors():
        from torchbcos.evaluation import compare, write_comparison
        from torchbcos.evaluation.destination import check_folder, check_name
        from torchbcos.evaluation.named import preset

        options |= {key: options[key].value for key in ("split", "targets", "device")}
        check_name(name)
        check_folder(out)
        chosen = preset(_listed(methods) or ["quick"])
        limit = None if budget is None else seconds(budget)
        does = start(engine, devices, nodes)
        with one_voice(does):
            found = compare(
                [_labelled(model) for model in models], chosen, metrics, data, out=out, budget=limit, pictures=True,
                progress=None if json else _progress, engine=does, **options,
            )  # fmt: skip
        if not does.first:
            raise typer.Exit(0)
        facts = found.to_dict()
        files = write_comparison(facts, found.cost, out, name, found.cases, found.curves, found.values)
    if json:
        print_json(facts)
    else:
        tell_comparison(facts, next(file for file in files if file.suffix == ".html"))
    if found.facts["data"]["unreadable"]:
        raise typer.Exit(1)


def _progress(batches: Any, count: int) -> Iterator[Any]:
    return shown(batches, count, label="measuring")


def seconds(text: str) -> float:
    """A time in words as seconds.

    >>> seconds("10m"), seconds("90"), seconds("1h30m")
    (600.0, 90.0, 5400.0)
    """
    from torchbcos._core.errors import InputError

    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or found is None:
        raise InputError(f"A time is written 90s, 10m or 1h30m, not {text!r}.")
    return sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True) if part)


def _listed(given: list[str] | None) -> list[str]:
    """Names of an option that may be repeated, and hold several with commas."""
    return [part.strip() for one in given or () for part in one.split(",") if part.strip()]


def _labelled(model: str) -> Any:
    """A source, or (label, source)."""
    label, equals, source = model.partition("=")
    return (label, source) if equals and re.fullmatch(r"[\w .-]+", label) else model
