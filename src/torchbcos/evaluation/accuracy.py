"""How often a classifier is right on a split, and how well it knows that; an interrupted measurement goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import replacing, write_json
from torchbcos._core.names import hint
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Examples, check_batch, loader, whole_batches
from torchbcos.data.sources import open_labelled
from torchbcos.metrics import score
from torchbcos.runs import HELD_OUT as HELD
from torchbcos.runs import RunFolder, read_held_out
from torchbcos.zoo import Card, Classifier, load
from torchbcos.zoo.load import from_card, pick_device
from torchbcos.zoo.store import CARD, fill, read_card

SPLITS = ("val", "train", "all")
WEIGHTS = {"ema": "average.", "last": "network."}
SAVE_EVERY = 20  # batches

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def measure_accuracy(
    model: Classifier,
    data: str | os.PathLike[str],
    *,
    split: str = "val",
    batch_size: int = 32,
    workers: int = 2,
    on_error: str = "stop",
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    run: str | os.PathLike[str] | None = None,
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

    Returns:
        `top1`, `top5`, `ece` in percent and `loss`; for several labels `map`, `f1`, `ece`; `pictures`, `unreadable`, `split`,
        `model`.

    Raises:
        InputError: no such split, or the classes are not the model's.

    """
    labelled = open_labelled(data)
    chosen, name = choose(labelled, split, read_held_out(RunFolder(Path(run)), labelled) if run is not None else {})
    targets = matched(model, labelled, chosen)
    chosen = Split(chosen.names, targets, chosen.reader, chosen.rows)
    key = [chosen.fingerprint(), model.card.to_dict(), fingerprint(model.model)] if out is not None else []
    saved = Partial(Path(out) if out is not None else None, key)
    logits, failed = predict_all(model, chosen, batch_size, workers, on_error, saved, progress)
    kept = [i for i in range(len(chosen)) if i not in failed]
    found = score(logits[kept], targets[kept], probability=model.card.probability)
    result = {"model": model.card.name, "data": str(data), "split": name, "pictures": len(kept),
              "unreadable": [chosen.names[i] for i in sorted(failed)], **found}  # fmt: skip
    saved.finish(result)
    return result


def choose(data: Labelled, split: str, held: Mapping[str, Sequence[str]] | None = None) -> tuple[Split, str]:
    """The split of that name, and what it is."""
    known, held = (*SPLITS, *HELD), held or {}
    if split not in known:
        raise InputError(f"There is no split {split!r}: choose {', '.join(known)}.{hint(split, known)}")
    if split == "val" and data.report is None and held.get("report"):
        split = "report"
    if split in HELD:
        wanted = set(held.get(split, ()))
        for part in (data.train, data.report):
            rows = [i for i, name in enumerate(part.names) if name in wanted] if part is not None else []
            if part is not None and rows:
                return part.take(rows), split
        raise InputError(f"No example of this data was held out as {split!r} by a run: --model RUN names one that did.")
    if split == "train" or data.report is None:
        return data.train, "train" if split == "train" and data.report is not None else "all"
    if split == "val":
        return data.report, "val"
    raise InputError("'all' is for data without a split of its own: this has 'train' and 'val'.")


def matched(model: Classifier, data: Labelled, split: Split) -> Tensor:
    """Targets in the order of the model's classes.

    Raises:
        InputError: the data has classes that the model lacks.
    """
    if tuple(model.class_names) == data.classes:
        return split.targets
    places = {name: i for i, name in enumerate(model.class_names)}
    missing = [name for name in data.classes if name not in places]
    if missing:
        known = ", ".join(model.class_names[:10])
        raise InputError(
            f"The model knows no class {missing[0]!r}, the data has it ({len(missing)} such).{hint(missing[0], places)} It knows "
            f"{len(places)}: {known}{', …' if len(places) > 10 else ''}."
        )
    order = torch.tensor([places[name] for name in data.classes])
    if split.targets.dim() == 1:
        return order[split.targets]
    wide = torch.zeros(len(split.targets), len(places))
    wide[:, order] = split.targets
    return wide


def fingerprint(network: nn.Module) -> str:
    """A hash of all weights: best, last and averaged ones of one run share a card."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Partial:
    """Logits so far, beside the result's file."""

    def __init__(self, out: Path | None, key: list[Any]) -> None:
        self.out, self.key = out, json.dumps(key, sort_keys=True, default=str)
        self.file = out.with_name(f".{out.name}.partial") if out is not None else None

    def read(self) -> tuple[Tensor | None, set[int]]:
        """What an interrupted measurement of the same model on the same split left."""
        if self.file is None or not self.file.is_file():
            return None, set()
        try:
            found = torch.load(self.file, weights_only=True)
        except Exception:  # half a file is as good as none
            return None, set()
        return (found["logits"], set(found["failed"])) if found["key"] == self.key else (None, set())

    def write(self, logits: list[Tensor], failed: set[int]) -> None:
        """Keep what there is.

        Raises:
            StateError: it cannot be written.
        """
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as partial:
                torch.save({"key": self.key, "logits": torch.cat(logits), "failed": sorted(failed)}, partial)
        except (OSError, RuntimeError) as error:
            raise StateError(f"Could not write {str(self.file)!r}: {str(error).splitlines()[0]}.") from None

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result."""
        if self.out is None or self.file is None:
            return
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.out, result)
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"Could not write {str(self.out)!r}: {error.strerror}.") from None


@torch.no_grad()
def predict_all(
    model: Classifier, split: Split, batch_size: int, workers: int, on_error: str, saved: Partial, progress: Progress | None
) -> tuple[Tensor, set[int]]:
    """Logits of every example in order, and which could not be read (their rows are zeros)."""
    done, failed = saved.read()
    parts = [done] if done is not None else []
    start = len(done) if done is not None else 0
    examples = Examples(split, model.transform)
    rows = [[i + start for i in batch] for batch in whole_batches(len(split) - start, batch_size)]
    parameter = next(model.model.parameters())
    batches = loader(examples, rows, workers)  # type: ignore[arg-type]
    for k, batch in enumerate(progress(batches, len(rows)) if progress else batches, 1):
        check_batch(batch, on_error)
        x = batch["x"].to(parameter.device, parameter.dtype)
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        parts.append(model.model(x).float().cpu())
        # an unreadable example was replaced by the next: its row shows another number than its own
        failed |= {own for own, row in zip(rows[k - 1], batch["rows"].tolist(), strict=True) if own != row}
        if k % SAVE_EVERY == 0:
            saved.write(parts, failed)
    return torch.cat(parts), failed


def open_model(source: str | Path, *, weights: str = "auto", device: str = "auto") -> Classifier:
    """A classifier for measuring: what `torchbcos.load` opens, or a run's folder.

    Args:
        source: a model, or the folder of a run (`torchbcos train --out`).
        weights: of a run: "auto" (what it exported), "ema", "last" or "best"; from its checkpoints.
        device: as in `load`.

    Raises:
        MissingFileError, InputError, WeightsError: there is no such model, or no such weights.
    """
    run = Path(source)
    if weights == "auto":
        return load(source, device=device)
    if weights not in (*WEIGHTS, "best"):
        raise InputError(f"weights is 'auto', 'ema', 'last' or 'best', not {weights!r}.")
    if not (run / CARD).is_file() or not (run / "checkpoints").is_dir():
        raise MissingFileError(f"{str(source)!r} is no run's folder: {weights} weights are in the checkpoints of one.")
    card = read_card(run)
    network = from_card(card, {})
    fill(network, RunFolder(run).weights(weights), where=f"the {weights} weights of {str(run)!r}")
    return Classifier(classified(network, card).to(pick_device(device)), card)


def classified(network: nn.Module, card: Card) -> nn.Module:
    """The network, ready to answer."""
    network.class_names = card.class_names()  # type: ignore[assignment]
    return network.eval().to(memory_format=torch.channels_last)
