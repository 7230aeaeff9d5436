"""How often a classifier is right on labelled data, and how well it knows that."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.files import write_json
from torchbcos.data.labelled import Split
from torchbcos.data.loading import Examples
from torchbcos.evaluation.diagram import bins_of
from torchbcos.evaluation.splits import choose_split, open_for, ready_for
from torchbcos.judging import Outputs, ProgressBar, SavedOutputs, fingerprint, judge, predict_split
from torchbcos.metrics import score_each
from torchbcos.pictures import Range
from torchbcos.pictures.samples import other_range
from torchbcos.runs import RunFolder, read_held_out
from torchbcos.zoo import Classifier

__all__ = ["measure_accuracy"]


def measure_accuracy(
    model: Classifier,
    data: str | os.PathLike[str],
    *,
    split: str = "val",
    batch_size: int = 32,
    workers: int = 2,
    on_error: str = "stop",
    out: str | os.PathLike[str] | None = None,
    progress: ProgressBar | None = None,
    run: str | os.PathLike[str] | None = None,
    value_range: Range | None = None,
    uncertain: str | None = None,
) -> dict[str, Any]:
    """Measure a classifier on labelled data.

    Args:
        model: see `torchbcos.load`, `open_model`.
        data: what `torchbcos.data.open_labelled` recognises.
        split: "val" (the data's own; where it has none, what `run` held out to report, or everything), "train", "all", or
            "selection" and "report": what `run` held out.
        batch_size: pictures at a time.
        workers: processes that read pictures.
        on_error: "stop" at unreadable pictures, or "skip" and name them.
        out: a JSON file for the result; with it an interrupted measurement goes on where it stopped.
        progress: wraps the batches, to show how far they are.
        run: the folder of the run that made the model, which knows what it held out.
        value_range: the stored numbers of black and white, see `torchbcos.pictures.read_image`; None: those of the model's card.
        uncertain: what a label of -1 means, see `torchbcos.data.open_labelled`; None: what it meant when the model was trained.

    Returns:
        `top1`, `top5`, `ece` in percent and `loss`; for several labels `map`, `f1` (at 0.5), `ece` (`labels_without_examples`,
        where there are any), and in `labels` each label's `label`, `ap`, `f1`, `known` and `positive`; `pictures`, `unreadable`,
        `split`, `model`, `fit`; `temperature`, that of the card, with which all this was measured; `reliability`, the bins
        behind `ece` (`low`, `high`, `confidence`, `accuracy` as parts of 1, `count`; see `torchbcos.metrics.reliability`); and
        `notes`, those of `torchbcos.data.Labelled` and of the first pictures' numbers. A number that is not defined, or that a
        broken network makes infinite or no number, is None, as JSON has neither; `not_finite` counts the pictures for which
        such a network gave no numbers.

    Raises:
        InputError: no such split, the classes are not the model's, or pictures cannot be read.
        StateError: the result cannot be written.
    """
    labelled = open_for(model, data, uncertain)
    chosen, name = choose_split(labelled, split, read_held_out(RunFolder(Path(run)), labelled) if run is not None else {})
    chosen = ready_for(model, chosen, labelled.classes, value_range)
    saved = None
    if out is not None:
        conditions = [chosen.fingerprint(), model.card.to_dict(), fingerprint(model.model)]
        saved = SavedOutputs(Path(out), conditions if value_range is None else [*conditions, list(value_range)])
    outputs = predict_split(
        model.model, Examples(chosen, model.transform),
        batch_size=batch_size, workers=workers, on_error=on_error, progress=progress, saved=saved,
    )  # fmt: skip
    found = judge(outputs, model.card.probability, temperature=model.card.temperature)
    result: dict[str, Any] = {
        "model": model.card.name, "data": str(data), "split": name, "fit": model.transform.fit,
        "pictures": len(outputs.rows),
        "unreadable": [chosen.names[i] for i in outputs.unreadable], "notes": [*labelled.notes, *_remarks(chosen, model)],
        **{name: value if math.isfinite(value) else None for name, value in found.items()},
        "temperature": model.card.temperature,
        "reliability": bins_of(outputs, model.card.probability, model.card.temperature),
    }  # fmt: skip
    broken = len(outputs.rows) - int(outputs.logits.isfinite().all(1).sum()) if outputs.rows else 0
    result |= {"not_finite": broken} if broken else {}
    if outputs.targets.dim() > 1:
        result["labels"] = _label_by_label(outputs, model.class_names)
    if out is not None and saved is not None:
        _write_result(Path(out), result)
        saved.remove()
    return result


def _remarks(split: Split, model: Classifier) -> tuple[str, ...]:
    """What is to be said of the numbers of the first examples, read within the range of the model's card where none was said."""
    other = other_range(model.transform.value_range, split.value_range)
    if split.value_range is None:
        with suppress(InputError):  # this data is neither files nor shards
            split = split.within(model.transform.value_range)
    return split.remarks() if other is None else (other, *split.remarks())


def _label_by_label(outputs: Outputs, names: Sequence[str]) -> list[dict[str, Any]]:
    """A record a label; what is not defined is None."""
    found = zip(names, score_each(outputs.logits, outputs.targets), strict=True)
    return [{"label": name, **{k: v if math.isfinite(v) else None for k, v in one.items()}} for name, one in found]


def _write_result(out: Path, result: dict[str, Any]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
    except OSError as error:
        raise StateError(f"Could not write {str(out)!r}: {error.strerror}.") from None
