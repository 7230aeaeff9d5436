"""A comparison on a Ray cluster: units stream through a pool of workers by Ray Data, and a worker that dies is replaced."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.names import quote, whole_number
from torchbcos._core.optional import require
from torchbcos.data.loading import Examples, whole_batches
from torchbcos.evaluation.alike import alike
from torchbcos.evaluation.boxes import Boxes
from torchbcos.evaluation.checkpoints import open_model
from torchbcos.evaluation.engines import Engine
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.store import Store
from torchbcos.evaluation.units import Worker
from torchbcos.judging import Outputs, ProgressBar, SavedOutputs, predict_split
from torchbcos.zoo import Classifier

__all__ = ["Ray"]

_MANY = 2000  # candidates from which on the cluster predicts them, too
_TRIES = 4  # of the same work: if so many workers died of it, it is the work that kills them
_BLOCKS = 8  # parts of the work for each worker: what one loses that dies, and how even they end
_LARGEST = 64  # units, or batches, of a part
_SAVE_EVERY = 50  # batches of predictions


class Ray(Engine):
    """Workers of a Ray cluster: the one of RAY_ADDRESS, or one of this machine's processes.

    Each worker opens models and data once. The folder of maps must be the same for all machines: what is finished is there at
    once.

    Args:
        devices: how many workers; "auto": one for each GPU of the cluster, or for each processor but one where there is none.

    Raises:
        MissingPackageError: Ray is not installed.
        InputError: `devices` is no number.
    """

    def __init__(self, devices: str | int = "auto") -> None:
        count = whole_number(str(devices))
        if str(devices) not in ("auto", "-1") and not count:
            raise InputError(f"devices is how many workers (2), or auto, not {quote(str(devices))}.")
        self.count = count
        self._ray = require("ray", extra="scale", why="--engine ray")
        self._data = require("ray.data", extra="scale", why="--engine ray")
        self._ours = False
        self._opening: dict[str, Any] = {}

    def __enter__(self) -> Ray:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports itself to its makers
        if not self._ray.is_initialized():
            there = os.environ.get("RAY_ADDRESS")
            # one processor more than workers: Ray Data has small tasks of its own, for which workers never make room
            own: dict[str, Any] = {} if there else {"num_cpus": max(self.count or 0, os.cpu_count() or 1) + 1}
            try:
                self._ray.init(address=there, log_to_driver=False, logging_level=logging.ERROR, **own)
            except Exception as error:
                raise StateError(f"Ray could not be reached or started: {_first_line(error)}") from None
            self._ours = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ours:
            self._ray.shutdown()
        self._ours = False

    def check(self, kept: bool, opening: Mapping[str, Any]) -> None:
        """Refuse maps in a folder that only this process would know; note how workers open models."""
        if not kept:
            raise InputError("A cluster needs a folder of maps that all its machines see: name it with out= (or --out).")
        self._opening = dict(opening)

    def predict(
        self, model: Measured, examples: Examples, *, batch_size: int, workers: int, saved: SavedOutputs | None,
        progress: ProgressBar | None,
    ) -> Outputs:  # fmt: skip
        """By the cluster, where there are many candidates: in the same batches, so that logits are the same."""
        if len(examples) < _MANY:
            return super().predict(
                model, examples, batch_size=batch_size, workers=workers, saved=saved, progress=progress
            )  # fmt: skip
        earlier = saved.read() if saved is not None else None
        known = set() if earlier is None else {*earlier.rows, *earlier.unreadable}
        batches = [rows for rows in whole_batches(len(examples), batch_size) if not known.issuperset(rows)]
        parts = [] if earlier is None else [earlier]
        root = (saved.file.parent if saved is not None else Path()).absolute()
        with _sign(root) as sign:
            job = _Job([self._sent(model)], self._opening, os.getcwd(), root=root, sign=sign, examples=examples)
            walk = self._walk(_Predictor, job, len(batches), batches)
            for number, found in enumerate(progress(walk, len(batches)) if progress else walk, 1):
                parts.append(Outputs(**pickle.loads(found)))
                if saved is not None and number % _SAVE_EVERY == 0:
                    parts = [Outputs.join(parts)]
                    saved.write(parts[0])
        return Outputs.join(parts)

    def run(self, worker: Worker, progress: ProgressBar | None) -> None:
        """Stream the units of each item through the pool of workers."""
        units = worker.units()
        models = [self._sent(model) for model in worker.models]
        with _sign(worker.store.root) as sign:
            boxes = worker.masks if isinstance(worker.masks, Boxes) else None
            job = _Job(models, self._opening, os.getcwd(), worker.plan, worker.split, boxes, worker.store.root.absolute(), sign)
            pieces = len(units) // units.block if units.block else 0
            walk = self._walk(_Unitwise, job, pieces)
            for found in progress(walk, pieces) if progress else walk:
                worker.learn(json.loads(found))

    def _sent(self, model: Measured) -> _Sent:
        """A model as workers open it: by name, or, where it has none, itself."""
        if model.source:
            path = Path(model.source)
            return _Sent(model.label, model.key, str(path.absolute()) if path.exists() else model.source)
        try:
            return _Sent(model.label, model.key, "", self._ray.cloudpickle.dumps(model.classifier))
        except Exception as error:
            raise InputError(
                f"{quote(model.label)} cannot be sent to the workers ({_first_line(error)}): save it (torchbcos.save), and name "
                "the folder."
            ) from None

    def _walk(self, kind: type, job: _Job, count: int, work: Sequence[Any] | None = None) -> Iterator[Any]:
        """What workers say of the numbers below `count`, as they have it."""
        gpus = self._opening.get("device") in ("auto", "cuda") and self._ray.cluster_resources().get("GPU", 0) >= 1
        there = int(self._ray.cluster_resources().get("GPU" if gpus else "CPU", 1)) - (0 if gpus else 1)
        pool = min(self.count or max(1, there), max(1, count))
        blocks = max(min(count, pool * _BLOCKS), -(-count // _LARGEST), 1)
        context = self._data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        for name in ["ray.data", *(name for name in logging.root.manager.loggerDict if name.startswith("ray.data."))]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it prints the call stacks of what is told in a sentence
        job = replace(job, device="cuda" if gpus else "cpu" if self._opening.get("device") == "auto" else self._opening["device"])
        sent = self._ray.put(self._ray.cloudpickle.dumps((job, work)))  # held here: a worker that is replaced asks for it again
        stream = self._data.range(count, override_num_blocks=blocks).map_batches(
            kind, fn_constructor_args=(sent,), batch_size=1, compute=self._data.ActorPoolStrategy(size=pool), num_cpus=1,
            num_gpus=1 if gpus else 0,
        )  # fmt: skip
        with self._readable():
            for batch in stream.iter_batches(batch_size=None, prefetch_batches=0):
                yield from batch["found"]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """One sentence of what workers do wrong."""
        try:
            yield
        except BcosError:
            raise
        except Exception as error:  # Ray wraps what a worker raised, once or several times
            said = _told(error)
            if said is None and not isinstance(error, self._ray.exceptions.RayError):
                raise
            if said is None:
                said = f"{_first_line(error).rstrip('.')}."
            raise StateError(
                shorten(f"On the cluster: {said} What was computed is kept: run the same command again.", 500)
            ) from None


@dataclass(frozen=True)
class _Sent:
    """A model on its way to a worker."""

    label: str
    key: str
    source: str
    classifier: bytes = b""


@dataclass(frozen=True)
class _Job:
    """What a worker needs: sent once to each machine.

    Attributes:
        models: in the plan's order.
        opening: `device`, `allow_code` and `threads` of the comparison.
        folder: in which relative paths are meant.
        plan, split, boxes, root: of a `Worker`.
        sign: a folder in `root`, which shows that it is the same folder.
        examples: to predict.
        device: of a worker.
    """

    models: Sequence[_Sent]
    opening: Mapping[str, Any]
    folder: str
    plan: Any = None
    split: Any = None
    boxes: Boxes | None = None
    root: Path | None = None
    sign: str = ""
    examples: Examples | None = None
    device: str = "cpu"

    def place(self) -> Path:
        """The folder of `sign`.

        Raises:
            StateError: it is not there, for the disk is another one.
        """
        assert self.root is not None
        found = self.root / self.sign
        if not found.is_dir():
            raise StateError(
                f"{quote(self.root)} on a worker is not the folder of that name here: name one on a shared disk (--out)."
            )
        return found

    def open(self) -> list[Measured]:
        """The models, on this worker's device.

        Raises:
            StateError: they are not those of the comparison.
        """
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        return [self._opened(sent) for sent in self.models]

    def _opened(self, sent: _Sent) -> Measured:
        if sent.source:
            classifier = open_model(sent.source, device=self.device, allow_code=bool(self.opening["allow_code"]))
        else:
            classifier = pickle.loads(sent.classifier)
            assert isinstance(classifier, Classifier)
            classifier.model.to(self.device)
        found = Measured(sent.label, classifier, sent.source)
        if found.key != sent.key:
            raise StateError(f"{quote(sent.label)} is another network on a worker than it is here: all need the same files.")
        return found


class _Unitwise:
    """A worker that does all units of an item."""

    def __init__(self, given: Any) -> None:
        job, _ = _received(given)
        assert job.root is not None
        self.tries = job.place()
        with alike(job.opening["threads"]):
            self.worker = Worker(job.plan, job.open(), job.split, Store(job.root), job.boxes)
        self.threads = job.opening["threads"]
        self.told = 0

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        units = self.worker.units()
        with alike(self.threads):
            for piece in batch["id"]:
                with _tried(self.tries / str(int(piece))):
                    for number in range(int(piece) * units.block, (int(piece) + 1) * units.block):
                        self.worker.run(units[number])
        hashes = self.worker.hashes()
        fresh, self.told = hashes[self.told :], len(hashes)
        return {"found": [json.dumps(fresh)]}


class _Predictor:
    """A worker that predicts batches."""

    def __init__(self, given: Any) -> None:
        job, self.batches = _received(given)
        assert job.examples is not None
        self.threads, self.examples, self.tries = job.opening["threads"], job.examples, job.place()
        with alike(self.threads):
            self.model = job.open()[0]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        found = []
        for number in batch["id"]:
            with _tried(self.tries / str(int(number))):
                found.append(pickle.dumps(asdict(self._predict(self.batches[int(number)]))))
        return {"found": found}

    def _predict(self, rows: Sequence[int]) -> Outputs:
        part = replace(self.examples, split=self.examples.split.take(rows))
        with alike(self.threads):
            found = predict_split(self.model.model, part, batch_size=len(rows), workers=0, on_error="skip")
        return replace(
            found, rows=tuple(rows[i] for i in found.rows), unreadable=tuple(rows[i] for i in found.unreadable)
        )  # fmt: skip


def _received(given: Any) -> tuple[_Job, Any]:
    """What a worker was sent, by reference: one copy a machine."""
    found: tuple[_Job, Any] = pickle.loads(require("ray", extra="scale", why="a worker of Ray").get(given))
    return found


@contextmanager
def _sign(root: Path) -> Iterator[str]:
    """A folder by which workers on other machines know that they see the same disk; in it, what they are at (`_tried`)."""
    sign = root / f".meeting-{uuid.uuid4().hex}"
    try:
        sign.mkdir()
        yield sign.name
    finally:
        shutil.rmtree(sign, ignore_errors=True)


@contextmanager
def _tried(file: Path) -> Iterator[None]:
    """Count how often this work was begun and not ended: Ray gives it to the next worker for ever.

    Raises:
        StateError: too often.
    """
    with file.open("ab") as tries:
        tries.write(b".")
    if file.stat().st_size > _TRIES:
        raise StateError(
            f"{_TRIES} workers died of the same pictures: memory ran out, or a file crashed them; --engine torchrun shows which."
        )
    yield
    file.unlink(missing_ok=True)


def _told(error: BaseException) -> str | None:
    """The sentence of ours in an error of Ray's, which has it at the end of its text; None: there is none."""
    found = re.findall(r"torchbcos\._core\.errors\.\w+: (.+)", str(error))
    return found[-1] if found else None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shorten(lines[0], 150)
