"""The machine under a run: Lightning's trainer, Ctrl-C, and what devices and reading processes do wrong."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.training.files import WholeFiles
from torchbcos.training.plan import Place
from torchbcos.training.recipe import Recipe

PRECISION: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_trainer(recipe: Recipe, place: Place, devices: int | str, nodes: int, strategy: str, accelerator: str) -> L.Trainer:
    """Lightning's trainer: one long epoch, of which the order of batches knows the real ones."""
    try:
        trainer = build_trainer(recipe, place, devices, nodes, strategy, accelerator)
        if recipe.freeze_epochs and type(trainer.strategy) is DDPStrategy and strategy in ("auto", "ddp"):
            # parameters that stand still for some epochs are missed by the others' gradients
            trainer = build_trainer(recipe, place, devices, nodes, "ddp_find_unused_parameters_true", accelerator)
        return trainer
    except Exception as error:
        if isinstance(error, BcosError):
            raise
        raise InputError(f"These devices cannot be used: {' '.join(str(error).split())}") from error


def build_trainer(recipe: Recipe, place: Place, devices: int | str, nodes: int, strategy: str, accelerator: str) -> L.Trainer:
    """`make_trainer` for one strategy."""
    return L.Trainer(
        max_epochs=1, devices=devices, num_nodes=nodes, strategy=strategy, accelerator=accelerator,
        precision=PRECISION[recipe.precision], accumulate_grad_batches=recipe.accumulate,
        logger=TensorBoardLogger(place.out, name="", version="tensorboard"), plugins=[WholeFiles()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, default_root_dir=place.out, barebones=False,
    )  # fmt: skip


class Stopped(Exception):
    """A step was finished and saved after Ctrl-C."""


@contextmanager
def answering_interrupts(stop: Callable[[], None], *, alone: bool) -> Iterator[None]:
    """The first Ctrl-C calls `stop`, the second interrupts at once, as it does where several processes work together."""
    usual = signal.getsignal(signal.SIGINT)
    deaf = usual in (None, signal.SIG_IGN)  # as in the background of a shell, where Ctrl-C means others
    if not alone or threading.current_thread() is not threading.main_thread() or deaf:
        yield
        return

    def answer(number: int, frame: Any) -> None:
        stop()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


class readable_errors:
    """Turn what a worker or a device does into one sentence."""

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        text = str(error)
        if error is None or isinstance(error, BcosError):
            return
        if "DataLoader worker" in text and ("exited unexpectedly" in text or "killed by signal" in text):
            raise StateError(
                f"A process that reads pictures died ({text.splitlines()[0][:120]}): it ran out of memory, or a file crashed it. "
                "The same command goes on; --set workers=0 shows the file."
            ) from None
        if isinstance(error, OSError):
            where = f" {error.filename!r}" if error.filename else ""
            raise StateError(
                f"The run could not write{where}: {error.strerror or error}. What it had written is kept; the same command "
                "goes on."
            ) from None
        if "out of memory" in text:
            raise StateError("The device ran out of memory: set a smaller batch_size, or the same with accumulate=2.") from None


def processes() -> tuple[int, int]:
    """This process and how many there are: one where none were started (a run whose steps were all done)."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)


def is_first_process() -> bool:
    """Whether this is the process that speaks: Lightning starts the others with the same words."""
    return int(rank_zero_only.rank or 0) == 0  # type: ignore[attr-defined]


def quiet() -> None:
    """Lightning's advertisements and hints, which are for its own users."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # compile on a machine without CUDA
