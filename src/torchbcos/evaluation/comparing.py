"""`compare` and `evaluate`: methods on models by metrics, on the same pictures, with how sure each number is."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.numbers import positive_integer
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.sources import open_labelled
from torchbcos.evaluation.alike import alike
from torchbcos.evaluation.boxes import Boxes
from torchbcos.evaluation.budget import within_budget
from torchbcos.evaluation.checkpoints import open_model
from torchbcos.evaluation.choosing import Chosen, Looked, choose_pictures, grids_of, labelled_by_one, look_at
from torchbcos.evaluation.engines import Engine
from torchbcos.evaluation.measured import Measured, geometry
from torchbcos.evaluation.measures import BOXES, GRIDS, settings_of
from torchbcos.evaluation.named import MAPS, NamedMethod, NamedMetric, digest, named_methods, named_metrics
from torchbcos.evaluation.reporting import Comparison, report
from torchbcos.evaluation.showing import cases_of
from torchbcos.evaluation.splits import choose_split
from torchbcos.evaluation.store import Store
from torchbcos.evaluation.units import Plan, Worker, set_of
from torchbcos.judging import ProgressBar, SavedOutputs
from torchbcos.metrics import protocol as protocol_of
from torchbcos.runs import RunFolder, read_held_out
from torchbcos.zoo import Classifier

__all__ = ["Comparison", "Options", "compare", "evaluate"]


@dataclass(frozen=True)
class Options:
    """What a comparison is asked for, beside models, methods, metrics and data.

    Attributes:
        split: "val", "train", "all", or of a run "selection" and "report".
        limit: grids, and pictures, at most.
        confidence: a probability of the right class that every model must exceed; None: 0.5, or the protocol's.
        protocol: of `torchbcos.metrics.PROTOCOLS`: how others measured.
        cell: side of a cell of a grid, in pixels.
        size: side of a picture.
        rescale: cells are shrunk so that a grid is as large as one picture: for networks that take one size.
        seed: of everything that is drawn.
        batch_size: items whose maps are computed together; 1 is as fast on a processor.
        workers: processes that read pictures for predictions.
        threads: of each process that computes: numbers agree to the last bit only where there are as many. Many processes with
            one thread each are faster than one with many.
    """

    split: str = "val"
    limit: int = 100
    confidence: float | None = None
    protocol: str | None = None
    cell: int | None = None
    size: int | None = None
    rescale: bool = False
    seed: int = 0
    batch_size: int = 1
    workers: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("limit", "cell", "size", "batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and positive_integer(value) is None:
                raise InputError(f"{name} must be a positive integer, not {value!r}.")


def evaluate(
    metric: str, model: Any, data: str | os.PathLike[str], *, methods: Any = ("inherent",), **options: Any
) -> Comparison:
    """One metric of several methods on one model; arguments as `compare`.

    >>> evaluate("grid-poynting", "default", "pictures")
    Traceback (most recent call last):
    torchbcos._core.errors.InputError: Unknown metric 'grid-poynting'. Did you mean 'grid-pointing'? ...
    """
    return compare([model], methods, [metric], data, **options)


def compare(
    models: Iterable[Any],
    methods: Any,
    metrics: Any,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    maps: str | os.PathLike[str] | None = None,
    budget: float | None = None,
    device: str = "auto",
    allow_code: bool = False,
    pictures: bool = False,
    progress: ProgressBar | None = None,
    engine: Engine | None = None,
    **options: Any,
) -> Comparison:
    """Measure methods on models by metrics, on pictures that all models get right.

    Args:
        models: what `torchbcos.load` takes, folders of runs, classifiers, or (label, any of these).
        methods: names with settings ("inherent", "rise:samples=128"), explainers, or (label, either); methods without a network
            (`torchbcos.evaluation.DUMB`) belong beside them.
        metrics: names of `torchbcos.metrics.METRICS` with settings: "grid-pointing:n=3", "deletion:first=least".
        data: what `torchbcos.data.open_labelled` recognises; `boxes.csv` or `masks/` beside it for metrics on objects.
        out: a folder for the cache of an interrupted comparison; None: nothing is kept.
        cache: the folder of maps; None: `maps` in `out`.
        maps: a folder of another library's maps, one more method: `<path of the picture>.<class index>.npy`.
        budget: seconds; samples of methods and numbers of pictures are chosen so that it is met, roughly.
        device, allow_code: as in `torchbcos.load`.
        pictures: make pictures of where methods do best and worst, for the page.
        progress: wraps the units of work, to show how far they are.
        engine: who does the work: None, this process; `torchbcos.evaluation.processes.Processes` where torchrun started several,
            `torchbcos.evaluation.ray_engine.Ray` on a cluster. The comparison is the same, to the last bit.
        options: fields of `torchbcos.evaluation.Options`.

    Returns:
        A `Comparison`: rows, paired differences, agreement of metrics, and what a reader should be told.

    Raises:
        InputError: an argument does not fit, or the data allow no comparison; the message says why.
        StateError: the cache cannot be written, or belongs to something else.
    """
    wanted = _options(options)
    chosen_methods, chosen_metrics = named_methods(methods), named_metrics(metrics)
    if maps is not None:
        chosen_methods = (*chosen_methods, NamedMethod(MAPS, MAPS, folder=str(Path(maps))))
    chosen_metrics = tuple(_with_protocol(metric, wanted.protocol) for metric in chosen_metrics)
    engine = engine if engine is not None else Engine()
    with tempfile.TemporaryDirectory() as scratch, engine, alike(wanted.threads):
        engine.check(cache is not None or out is not None)
        store = Store(Path(cache) if cache is not None else Path(out, "maps") if out is not None else Path(scratch, "maps"))
        measured = [_measured(one, engine.device(device), allow_code) for one in models]
        if not measured:
            raise InputError("Name at least one model.")
        labelled = open_labelled(data)
        labelled_by_one(labelled)
        split, name = _split(labelled, wanted.split, measured)
        boxes = Boxes(Path(data), split) if any(set_of(one) == BOXES for one in chosen_metrics) else None
        plan = Plan(
            chosen_methods, chosen_metrics, labelled.classes, {}, wanted.cell, wanted.size, wanted.rescale, wanted.seed,
            wanted.batch_size,
        )  # fmt: skip
        draft = Worker(plan, measured, split, store, boxes)
        looked: dict[str, Looked] = {}
        spared: tuple[str, ...] = ()

        def choose() -> Worker:
            nonlocal spared
            looked.update(_look(draft, labelled, wanted, engine, progress))
            chosen = dataclasses.replace(plan, sets=_sets(looked, chosen_metrics, wanted, boxes))
            worker = dataclasses.replace(draft, plan=chosen)
            if budget is not None:
                worker, spared = within_budget(worker, budget)
            return worker

        worker = engine.decide(draft, choose)
        engine.run(worker, progress)

        def conclude() -> Comparison:
            store.reload()
            about = {"path": str(data), "split": name, "fingerprint": split.fingerprint(), "pictures": len(split)}
            found = report(worker, looked, about, {**dataclasses.asdict(wanted), "budget": budget}, spared)
            return dataclasses.replace(found, cases=cases_of(worker, found)) if pictures else found

        return engine.report(conclude)


def _options(given: Mapping[str, Any]) -> Options:
    known = [field.name for field in dataclasses.fields(Options)]
    for key in given:
        if key not in known:
            raise ArgumentTypeError(f"compare has no argument {key!r}. It has {', '.join(known)}.")
    return Options(**given)


def _measured(given: Any, device: str, allow_code: bool) -> Measured:
    label, source = given if isinstance(given, tuple) else ("", given)
    if isinstance(source, Measured):
        return source
    if isinstance(source, Classifier):
        return Measured(label or source.card.name, source)
    if isinstance(source, nn.Module):
        raise ArgumentTypeError(
            "A network alone does not say how pictures become its input: compare a torchbcos.Classifier(network, class_names=…)."
        )
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentTypeError(f"A model is what torchbcos.load takes, or a Classifier, not {type(source).__name__}.")
    classifier = open_model(str(source), device=device, allow_code=allow_code)
    return Measured(label or classifier.card.name, classifier, str(source))


def _split(labelled: Labelled, split: str, models: Sequence[Measured]) -> tuple[Split, str]:
    held: Mapping[str, Sequence[str]] = {}
    for model in models:
        if model.source and not held and Path(model.source).is_dir():
            held = read_held_out(RunFolder(Path(model.source)), labelled)
    return choose_split(labelled, split, held)


def _with_protocol(metric: NamedMetric, name: str | None) -> NamedMetric:
    """The metric with the settings of a protocol, where these say something of it; what was given stays."""
    if name is None:
        return metric
    given = protocol_of(name).arguments
    usual = settings_of(metric)
    calls = {**given.get("own_cells", {}), **given.get("grid_pointing", {})} if set_of(metric).startswith(GRIDS) else {}
    if metric.name in ("deletion", "insertion"):
        calls = {**given.get("removal_order", {}), **given.get("removal_curve", {}), **given.get(metric.name, {})}
    elif metric.name in given:
        calls = dict(given[metric.name])
    return dataclasses.replace(metric, settings={**{k: v for k, v in calls.items() if k in usual}, **metric.settings})


def _chooser(wanted: Options) -> dict[str, Any]:
    return dict(protocol_of(wanted.protocol).arguments.get("choose_grids", {})) if wanted.protocol else {}


def _look(draft: Worker, labelled: Labelled, wanted: Options, engine: Engine, progress: ProgressBar | None) -> dict[str, Looked]:
    """Predictions for grids, of pictures as large as a cell, and for pictures."""
    models, split, metrics = draft.models, draft.split, draft.plan.metrics
    found = {}
    for kind in dict.fromkeys(GRIDS if set_of(metric).startswith(GRIDS) else "pictures" for metric in metrics):
        if kind == GRIDS:
            prepares = [geometry(models[0].classifier.transform, wanted.cell)] * len(models)
            prepares = [
                dataclasses.replace(model.classifier.transform, resize=p.resize, crop=p.crop)
                for model, p in zip(models, prepares, strict=True)
            ]
            needed = wanted.limit * max(int(set_of(m).partition("-")[2]) ** 2 for m in metrics if set_of(m).startswith(GRIDS))
        else:
            prepares, needed = [geometry(model.classifier.transform, wanted.size) for model in models], wanted.limit

        def saved(number: int, prepares: Sequence[Any] = prepares, needed: int = needed) -> SavedOutputs:
            what = [split.fingerprint(), models[number].key, prepares[number].to_dict(), needed, wanted.seed]
            return SavedOutputs(draft.store.root / f"predictions-{digest(what)[:16]}", what)

        found[kind] = look_at(
            models, split, labelled.classes, prepares, needed=needed, seed=wanted.seed, workers=wanted.workers, saved=saved,
            predict=engine.predict, progress=progress,
        )  # fmt: skip
    return found


def _sets(
    looked: Mapping[str, Looked], metrics: Sequence[NamedMetric], wanted: Options, boxes: Boxes | None
) -> dict[str, Chosen]:
    chooser = _chooser(wanted)
    confidence = wanted.confidence if wanted.confidence is not None else chooser.get("confidence", 0.5)
    found = {}
    for name in dict.fromkeys(set_of(metric) for metric in metrics):
        if name.startswith(GRIDS):
            n = int(name.partition("-")[2])
            found[name] = grids_of(
                looked[GRIDS], n, limit=wanted.limit, confidence=confidence, seed=wanted.seed, legacy=chooser.get("legacy", False)
            )
        else:
            among = boxes.rows if name == BOXES and boxes is not None else None
            found[name] = choose_pictures(
                looked["pictures"], limit=wanted.limit, confidence=confidence, seed=wanted.seed, among=among
            )
    return found
