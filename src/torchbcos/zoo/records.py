"""The record of a picture, as `--json` prints it: made here for every program that answers for pictures.

    {"file", "error": None or a sentence, "predictions": [{"index", "label", "probability", "logit"}],
     "explanations": [{"index", "label", "value", "contribution", "constants", "aside", "residual", "complete", "share",
     "picture"}],
     "crop": {"fit", "share", "box"}, "scan": {"window", "unit", "spacing", …} of scans and arrays with a range,
     "undecided": true where no class reaches one half, "warning": a sentence, where there is something to hear}

"crop" says what part of the picture the network looked at: its share of the area, and [left, top, right, bottom] in pixels; of a
signal or a volume that is all. "scan" is what the file says of its numbers: "window" are those that became 0 and 1.
An explanation that does not add up has "complete": false, and its record a "warning". "aside" is the fixed logit bias, which is
a part of the constants and no part of the share. An explanation with a contrast has "contrast": {"index", "label"}, too.
Everything in a record is ready for JSON.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from torchbcos._core.errors import BcosError, ExplanationWarning
from torchbcos._core.probability import undecided
from torchbcos.explanation import Explanation
from torchbcos.pictures import Seen, title_of
from torchbcos.rendering import missing_words
from torchbcos.zoo.classifier import Classifier, Prediction

__all__ = ["Record", "attempt", "explained", "failed_record", "iter_explained", "predicted"]

Record = dict[str, Any]
# which of the pictures, its explanation (N = 1), which of its targets, the record so far -> what "picture" becomes
_Draw = Callable[[int, Explanation, int, Record], str | None]
_T = TypeVar("_T")


def _record_of(file: str, predictions: Iterable[Prediction], seen: Seen, explanations: Iterable[Record] = ()) -> Record:
    """The record of a picture that was answered.

    >>> _record_of("a.png", [Prediction(3, "cat", 0.5, 0.0)], Seen(fit="crop", share=1.0, box=(0, 0, 8, 8)))["predictions"]
    [{'index': 3, 'label': 'cat', 'probability': 0.5, 'logit': 0.0}]
    """
    rows = [dataclasses.asdict(prediction) for prediction in predictions]
    return {
        "file": file, "error": None, "predictions": rows, "explanations": list(explanations), "crop": seen.to_dict(),
        **({} if seen.scan is None else {"scan": _ready(seen.scan)}),
        "undecided": undecided([row["probability"] for row in rows]),
    }  # fmt: skip


def _ready(value: Any) -> Any:
    """A value for JSON, whatever the facts of a caller's own Scan hold: NaN and infinity, which it has not, become None.

    >>> from pathlib import Path
    >>> _ready({"spacing": (np.float32(0.5), float("inf")), "at": Path("a")})
    {'spacing': [0.5, None], 'at': 'a'}
    """
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _ready(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ready(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def failed_record(file: str, error: BcosError | str) -> Record:
    """The record of a picture that could not be read or answered.

    >>> failed_record("a.png", "'a.png' is empty.")["error"]
    "'a.png' is empty."
    """
    return {"file": file, "error": str(error), "predictions": [], "explanations": []}


def predicted(classifier: Classifier, files: Sequence[str], pictures: Sequence[Any], *, top_k: int = 5) -> list[Record]:
    """A record with predictions for each picture of one batch.

    Args:
        classifier: who answers.
        files: what the records call the pictures.
        pictures: as `Classifier.predict` takes them, one a file.
        top_k: how many classes.
    """
    rows = classifier.iter_seen(list(pictures), top_k=top_k, batch_size=len(pictures))
    return [_record_of(file, row, seen) for file, (row, seen) in zip(files, rows, strict=True)]


def explained(
    classifier: Classifier, files: Sequence[str], pictures: Sequence[Any], targets: Sequence[int] | None = None, *,
    top_k: int = 1, contrast: int | None = None, draw: _Draw | None = None, products: str | None = None,
) -> list[Record]:  # fmt: skip
    """A record with predictions and explanations for each picture of one batch; arguments as `iter_explained`."""
    options: dict[str, Any] = {"top_k": top_k, "contrast": contrast, "draw": draw, "products": products}
    return list(iter_explained(classifier, files, pictures, targets, **options))


def iter_explained(
    classifier: Classifier, files: Sequence[str], pictures: Sequence[Any], targets: Sequence[int] | None = None, *,
    top_k: int = 1, contrast: int | None = None, draw: _Draw | None = None, products: str | None = None,
) -> Iterator[Record]:  # fmt: skip
    """`explained`, each record as soon as its panels are drawn: whoever is interrupted has those of what is finished.

    Args:
        classifier: who answers.
        files: what the records call the pictures.
        pictures: as `Classifier.explain` takes them, one a file.
        targets: the classes to explain, for each picture the same; None: its `top_k` highest.
        top_k: how many classes are explained where no targets are given.
        contrast: the class to which each is compared.
        draw: writes or keeps the panel of an explanation, and gives what "picture" says of it; if it raises a BcosError, that
            picture's record is a failed one. None: "picture" is None.
        products: what becomes of products of two signals, as `torchbcos.explain` takes it.
    """
    rows = None if targets is None else [list(targets)] * len(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplanationWarning)  # the records say it
        e = classifier.explain(
            list(pictures), rows, top_k=top_k, contrast=contrast, batch_size=len(pictures), products=products
        )  # fmt: skip
    e = e.shown_with(titles=[title_of(file) for file in files])
    predictions = classifier.predictions(e.outputs)
    for i, file in enumerate(files):
        try:
            record = _record_of(file, predictions[i], e.seen[i], _explanations(i, e[i], draw)) | _warning(e[i])
        except BcosError as error:
            record = failed_record(file, error)
        yield record


def _warning(e: Explanation) -> Record:
    """The first of the explanations of one image that does not add up, in words."""
    wrong = (~e.complete[0]).nonzero()
    if not len(wrong):
        return {}
    parts = {1: "samples", 3: "voxels"}.get(e.inputs.ndim - 2, "pixels")
    words = missing_words(float(e.residual[0, int(wrong[0])]), parts=parts, difference=e.contrast is not None)
    return {"warning": words}


def _explanations(i: int, e: Explanation, draw: _Draw | None) -> list[Record]:
    records: list[Record] = e.to_dict()["explanations"][0]
    for k, record in enumerate(records):
        record["picture"] = None if draw is None else draw(i, e, k, record)
    return records


def attempt(
    work: Callable[[list[_T]], Iterable[Record]], items: list[_T], name: Callable[[_T], str]
) -> Iterator[Record]:  # fmt: skip
    """The records of a batch; if the batch fails, of each item alone, so that one picture takes no other with it.

    Args:
        work: answers for several items, one record each, or raises a BcosError. Records that came before it are kept.
        items: of one batch.
        name: what a failed record calls an item.

    >>> def work(items):
    ...     if 0 in items: raise BcosError("nothing there")
    ...     return [{"error": None} for item in items]
    >>> [record["error"] for record in attempt(work, [1, 0, 2], str)]
    [None, 'nothing there', None]
    """
    done = 0
    try:
        for record in work(items):
            done += 1
            yield record
    except BcosError as error:
        if len(items) == 1 and not done:
            yield failed_record(name(items[0]), error)
            return
        for item in items[done:]:
            yield from attempt(work, [item], name)
