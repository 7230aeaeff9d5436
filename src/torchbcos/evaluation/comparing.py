"""`compare` and `evaluate`: methods on models by metrics, on the same pictures, with how sure each number is."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos._core.numbers import integer, positive_integer, real
from torchbcos.data.labelled import Labelled, Split
from torchbcos.evaluation.alike import alike
from torchbcos.evaluation.boxes import Boxes
from torchbcos.evaluation.budget import candidates_within, check_budget, within_budget
from torchbcos.evaluation.checkpoints import open_model
from torchbcos.evaluation.choosing import Looked, look_at
from torchbcos.evaluation.destination import keep_out_of
from torchbcos.evaluation.engines import Engine
from torchbcos.evaluation.foreign_maps import inventory
from torchbcos.evaluation.itemising import choose
from torchbcos.evaluation.measured import Measured, common_geometry, geometry
from torchbcos.evaluation.measures import BOXES, GRIDS, settings_of
from torchbcos.evaluation.named import MAPS, NamedMethod, NamedMetric, digest, named_methods, named_metrics
from torchbcos.evaluation.reporting import Comparison, report
from torchbcos.evaluation.showing import cases_of
from torchbcos.evaluation.splits import choose_split
from torchbcos.evaluation.store import Store
from torchbcos.evaluation.trying import check_methods, check_metrics, check_sizes
from torchbcos.evaluation.units import Plan, Worker, set_of
from torchbcos.evaluation.unlabelled import contents, open_pictures
from torchbcos.judging import ProgressBar, SavedOutputs
from torchbcos.metrics import protocol as protocol_of
from torchbcos.runs import RunFolder, read_held_out
from torchbcos.zoo import Classifier

__all__ = ["Comparison", "Options", "compare", "evaluate"]

_TARGETS = ("label", "predicted")


@dataclass(frozen=True)
class Options:
    """What a comparison is asked for, beside models, methods, metrics and data.

    Attributes:
        split: "val", "train", "all", or of a run "selection" and "report".
        targets: "label": the class that the data say, of pictures that every model gets right; "predicted": each model's own
            first class, whatever it is: for models that do not know the data's classes, and pictures without labels.
        limit: grids, and pictures, at most.
        limit_pictures: pictures at most, of metrics on single pictures: they take longer; None: as `limit`.
        confidence: a probability of the right class that every model must exceed; None: 0.5, or the protocol's.
        protocol: of `torchbcos.metrics.PROTOCOLS`: how others measured.
        cell: side of a cell of a grid, in pixels; None: as the smallest of the models' pictures.
        size: side of a picture.
        rescale: cells are shrunk so that a grid is as large as one picture: for networks that take one size.
        seed: of everything that is drawn.
        batch_size: items whose maps are computed together; 1 is as fast on a processor.
        workers: processes that read pictures for predictions.
        threads: of each process that computes: numbers agree to the last bit only where there are as many. Many processes with
            one thread each are faster than one with many.
    """

    split: str = "val"
    targets: str = "label"
    limit: int = 100
    limit_pictures: int | None = None
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
        for name in ("limit", "limit_pictures", "cell", "size", "batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and positive_integer(value) is None:
                raise InputError(f"{name} must be a positive integer, not {value!r}.")
        if self.targets not in _TARGETS:
            raise InputError(f"targets is 'label' or 'predicted', not {self.targets!r}.{hint(str(self.targets), _TARGETS)}")
        least = real(self.confidence)
        if self.confidence is not None and (least is None or not 0 <= least < 1):
            raise InputError(f"confidence is a probability in [0, 1) that must be exceeded, not {self.confidence!r}.")
        for name in ("seed", "workers"):
            found = integer(getattr(self, name))
            if found is None or not 0 <= found < 2**63:
                raise InputError(f"{name} must be a whole number, 0 or more, not {getattr(self, name)!r}.")
        if not isinstance(self.rescale, bool):
            raise InputError(f"rescale is true or false, not {self.rescale!r}.")

    @property
    def pictures(self) -> int:
        """Single pictures at most."""
        return self.limit if self.limit_pictures is None else self.limit_pictures


def evaluate(
    metric: str, model: Any, data: str | os.PathLike[str], *, methods: Any = ("inherent",), **options: Any
) -> Comparison:
    """One metric of several methods on one model; arguments as `compare`.

    >>> evaluate("grid-poynting", "default", "pictures")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    torchbcos._core.errors.InputError: Unknown metric 'grid-poynting'. Did you mean 'grid-pointing' ...
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
    began = time.monotonic()
    keep_out_of(data, out, cache)
    wanted = _options(options)
    if budget is not None:
        check_budget(budget)
    chosen_methods, chosen_metrics = _asked(methods, metrics, maps, wanted)
    engine = engine if engine is not None else Engine()
    with tempfile.TemporaryDirectory() as scratch, engine, alike(wanted.threads):
        engine.check(
            cache is not None or out is not None, {"device": device, "allow_code": allow_code, "threads": wanted.threads}
        )
        store = Store(Path(cache) if cache is not None else Path(out, "maps") if out is not None else Path(scratch, "maps"))
        measured = [_measured(one, engine.device(device), allow_code) for one in _several(models)]
        if not measured:
            raise InputError("Name at least one model.")
        _distinct_labels(measured)
        check_sizes(measured, chosen_metrics, cell=wanted.cell, size=wanted.size, rescale=wanted.rescale)
        check_methods(chosen_methods, measured[0], geometry(measured[0].classifier.transform, wanted.size).crop)
        labelled = open_pictures(data, labelled=wanted.targets == "label")
        split, name = _split(labelled, wanted.split, measured)
        classes = labelled.classes if wanted.targets == "label" else tuple(measured[0].classifier.class_names)
        boxes = Boxes(Path(data), split) if any(set_of(one) == BOXES for one in chosen_metrics) else None
        most = max(len(model.classifier.class_names) for model in measured)
        inside = None if maps is None else inventory(maps, split.names, most)
        plan = Plan(
            chosen_methods, chosen_metrics, classes, {}, wanted.cell, wanted.size, wanted.rescale, wanted.seed, wanted.batch_size,
        )  # fmt: skip
        draft = Worker(plan, measured, split, store, boxes)
        looked: dict[str, Looked] = {}
        about = {"path": str(data), "split": name, "fingerprint": split.fingerprint(), "pictures": len(split)}
        spared: tuple[str, ...] = ()

        def decide() -> Worker:
            nonlocal spared
            looked.update(_look(draft, labelled, wanted, engine, progress, candidates_within(budget)))
            limits = {"limit": wanted.limit, "pictures": wanted.pictures}
            sets, on_maps = choose(draft, looked, **limits, chooser=_chooser(wanted), boxes=boxes, inside=inside)
            about.update(on_maps)
            worker = dataclasses.replace(draft, plan=dataclasses.replace(plan, sets=sets))
            if budget is not None:
                worker, spared = within_budget(worker, budget, lambda: time.monotonic() - began)
            return worker

        worker = engine.decide(draft, decide)
        engine.run(worker, progress)

        def conclude() -> Comparison:
            store.reload()
            found = report(worker, looked, about, {**dataclasses.asdict(wanted), "budget": budget}, spared)
            return dataclasses.replace(found, cases=cases_of(worker, found)) if pictures else found

        return engine.report(conclude)


def _asked(
    methods: Any, metrics: Any, maps: str | os.PathLike[str] | None, wanted: Options
) -> tuple[tuple[NamedMethod, ...], tuple[NamedMetric, ...]]:
    """Methods and metrics, with their settings tried."""
    chosen = named_methods(methods) if maps is None or methods else ()
    if maps is not None:
        chosen = (*chosen, NamedMethod(MAPS, MAPS, folder=str(Path(maps))))
    found = tuple(_with_protocol(metric, wanted.protocol) for metric in named_metrics(metrics))
    check_metrics(found)
    return chosen, found


def _several(models: Any) -> list[Any]:
    """Models one by one, where one alone may be given."""
    if isinstance(models, (str, os.PathLike, Classifier, Measured, nn.Module)):
        return [models]
    if not isinstance(models, Iterable):
        raise ArgumentTypeError(f"models is a list of what torchbcos.load takes, or of Classifiers, not {type(models).__name__}.")
    return list(models)


def _distinct_labels(models: Sequence[Measured]) -> None:
    """Tables name models by their labels: two that share one are told apart by where they come from, or counted."""
    for same in [[one for one in models if one.label == label] for label in dict.fromkeys(one.label for one in models)]:
        if len(same) > 1 and len({one.source for one in same}) == len(same):
            for one in same:
                one.label = one.source or one.label
    taken: set[str] = set()
    for one in models:
        label, count = one.label, 1
        while one.label in taken:
            count += 1
            one.label = f"{label} {count}"
        taken.add(one.label)


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
    """How sure models must be, and how grids are drawn."""
    found = dict(protocol_of(wanted.protocol).arguments.get("choose_grids", {})) if wanted.protocol else {}
    usual = 0.5 if wanted.targets == "label" else 0.0
    confidence = found.get("confidence", usual) if wanted.confidence is None else float(wanted.confidence)
    return {"confidence": confidence, "legacy": found.get("legacy", False)}


def _look(
    draft: Worker, labelled: Labelled, wanted: Options, engine: Engine, progress: ProgressBar | None, most: int | None
) -> dict[str, Looked]:
    """Predictions for grids, of pictures as large as a cell, and for pictures."""
    models, split, metrics, store = draft.models, draft.split, draft.plan.metrics, draft.store
    found = {}
    for kind in dict.fromkeys(GRIDS if set_of(metric).startswith(GRIDS) else "pictures" for metric in metrics):
        if kind == GRIDS:
            transforms = [model.classifier.transform for model in models]
            prepares = [common_geometry(transforms, wanted.cell, own) for own in transforms]
            needed = wanted.limit * max(int(set_of(m).partition("-")[2]) ** 2 for m in metrics if set_of(m).startswith(GRIDS))
        else:
            prepares, needed = [geometry(model.classifier.transform, wanted.size) for model in models], wanted.pictures

        def saved(number: int, part: Split, prepares: Sequence[Any] = prepares) -> SavedOutputs:
            what = [contents(part), models[number].key, prepares[number].to_dict()]
            return SavedOutputs(store.root / f"predictions-{digest(what)[:16]}", what)

        found[kind] = look_at(
            models, split, labelled.classes, prepares, needed=needed, seed=wanted.seed, predicted=wanted.targets == "predicted",
            most=most, predict=engine.predict, workers=wanted.workers, saved=saved, progress=progress,
        )  # fmt: skip
    return found
