"""The machine under a run: devices and processes, and what devices and reading processes do wrong."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

import torch

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos.training.recipe import Recipe, list_settings, registry

if TYPE_CHECKING:  # to list recipes, nothing of this is needed
    from lightning.fabric import Fabric

__all__ = [
    "LAUNCHER", "NOISY", "build_fabric", "end_with", "everyones", "generator_kept", "half_of", "is_first_process", "launch",
    "processes", "processors", "readable_errors", "surroundings_kept", "with_readers",
]  # fmt: skip

_T = TypeVar("_T")
_DEVICES = re.compile(r"-1|[0-9]{1,9}(,[0-9]{1,9})*,?")
LAUNCHER = "TORCHBCOS_LAUNCHER"  # the process that started the others of a run
NOISY = ("lightning.pytorch", "lightning.fabric", "lightning", "torch.utils.cpp_extension")


def build_fabric(recipe: Recipe, devices: int | str, nodes: int, strategy: str, accelerator: str) -> Fabric:
    """The devices of a run; no process is started yet.

    Raises:
        InputError: there are no such devices.
    """
    _check_devices(devices)
    lightning = require("lightning.fabric", extra="train", why="training")
    ddp = require("lightning.fabric.strategies.ddp", extra="train", why="training")

    def build(strategy: str) -> Fabric:
        fabric: Fabric = lightning.Fabric(accelerator=accelerator, strategy=strategy, devices=devices, num_nodes=nodes)
        return fabric

    try:
        fabric = build(strategy)
        if recipe.freeze_epochs and isinstance(fabric.strategy, ddp.DDPStrategy) and strategy in ("auto", "ddp"):
            # parameters that stand still for some epochs get no gradient, for which other processes would wait
            fabric = build("ddp_find_unused_parameters_true")
        return fabric
    except Exception as error:  # of many kinds, one for each way in which devices can be missing
        asked = f"devices={devices!r}, accelerator={accelerator!r}, strategy={strategy!r}, nodes={nodes}"
        raise InputError(
            f"These devices cannot be used: {shorten(asked, 250)}. This machine has {torch.cuda.device_count()} CUDA devices and "
            "a processor: leave out what you did not mean, or ask for what is there."
        ) from error


def _check_devices(devices: object) -> None:
    """Refuse what names no devices, before Lightning reads it as a number.

    Raises:
        InputError: it is no number, and no list of numbers.
    """
    if isinstance(devices, str) and devices != "auto" and not _DEVICES.fullmatch(devices):
        raise InputError(
            f"devices is how many (2), which of them (0,1), -1 for all, or auto, not {quote(devices)}: --devices 2, for example."
        )


def launch(fabric: Fabric) -> None:
    """Start the other processes, and wait until all have met.

    Raises:
        InputError: the strategy starts processes in a way of its own.
    """
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is not None:
        end_with(int(launcher))
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        with _output_aside() if fabric.world_size > 1 else nullcontext():
            fabric.launch()
    except TypeError as error:  # strategies that start their processes with a function of the caller's
        raise InputError(
            "This strategy cannot be used: it starts its processes by a function of its own, and a run is a program. Choose ddp."
        ) from error
    finally:
        os.environ.pop(LAUNCHER, None)


@contextmanager
def _output_aside() -> Iterator[None]:
    """What libraries below Python print to standard output ("[Gloo] Rank 0 is connected …" of torch 2.8) goes to stderr."""
    try:
        kept = os.dup(1)
    except OSError:  # closed
        yield
        return
    try:
        if sys.stdout is not None:  # Python's name of a stream that was closed before it began
            sys.stdout.flush()
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def end_with(launcher: int) -> None:
    """End this process when the one that started it has died, however it died.

    The launcher watches the processes that it started. Nothing watches the launcher: killed before all of them have met, it
    would leave processes that wait half an hour for it.
    """

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()


def half_of(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of a precision's autocast; None for "32". A processor computes "16" in bfloat16, as it always did.

    >>> half_of("16", torch.device("cpu")), half_of("16", torch.device("cuda"))
    (torch.bfloat16, torch.float16)
    """
    if precision == "32":
        return None
    return torch.float16 if precision == "16" and device.type != "cpu" else torch.bfloat16


def processes() -> tuple[int, int]:
    """This process and how many there are: one where none were started."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def with_readers(recipe: Recipe, workers: int | None) -> Recipe:
    """The recipe with so many processes that read; None: as many as it says, but no more than there are processors, unless
    somebody changed the number that the recipe came with.

    >>> with_readers(Recipe(workers=77), None).workers, with_readers(Recipe(), 3).workers
    (77, 3)
    """
    if workers is None:
        usual = registry()[recipe.name]().workers if recipe.name in registry() else list_settings()["workers"].default
        workers = min(recipe.workers, processors()) if recipe.workers == usual else recipe.workers
    return recipe if workers == recipe.workers else recipe.changed(workers=workers)


def is_first_process() -> bool:
    """Whether this is the process that speaks: Lightning starts the others with the same words."""
    ranks = require("lightning.fabric.utilities.rank_zero", extra="train", why="training")
    return int(ranks.rank_zero_only.rank or 0) == 0  # Lightning sets it on the function


def everyones(items: list[_T]) -> list[_T]:
    """The items of all processes, one process after the other."""
    world = processes()[1]
    if world == 1:
        return items
    parts: list[list[_T]] = [[]] * world
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


@contextmanager
def surroundings_kept() -> Iterator[None]:
    """Quiet Lightning; afterwards the random generator, warnings and log levels are the caller's again."""
    levels = {name: logging.getLogger(name).level for name in NOISY}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        for name in NOISY:  # advertisements and hints for Lightning's own users; a compiler that finds no CUDA
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # a number that somebody chose
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def generator_kept(device: torch.device) -> Iterator[None]:
    """Afterwards the random generator of this device, which every step seeds, is the caller's again."""
    if device.type == "cpu":  # see `surroundings_kept`
        yield
        return
    module = torch.get_device_module(device)
    state = module.get_rng_state()  # of the current device, which is this one: the launch made it so
    try:
        yield
    finally:
        module.set_rng_state(state)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a reading process, a disk or a device does wrong into one sentence."""
    try:
        yield
    except BcosError:
        raise
    except (OSError, RuntimeError) as error:
        said = _sentence_of(error)
        if said is None:
            raise
        raise StateError(said) from None


def _sentence_of(error: OSError | RuntimeError) -> str | None:
    """What a person should read of an error of the machine; None where it is no such error."""
    text = str(error)
    if "DataLoader worker" in text and ("exited unexpectedly" in text or "killed by signal" in text):
        return (
            f"A process that reads pictures died ({text.splitlines()[0][:120]}): it ran out of memory, or a file crashed it. "
            "The same command goes on; --set workers=0 shows the file."
        )
    if "closed by peer" in text or "onnection reset" in text:  # gloo, and the sockets below it
        return "Another process of this run ended before its time; what was saved is kept, and the same command goes on."
    if isinstance(error, OSError):
        where = f" {error.filename!r}" if error.filename else ""
        return (
            f"The run could not write{where}: {error.strerror or error}. What it had written is kept; the same command goes on."
        )
    if "out of memory" in text:
        return "The device ran out of memory: set a smaller batch_size, or the same with accumulate=2."
    return None
