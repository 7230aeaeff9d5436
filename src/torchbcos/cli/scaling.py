"""`--devices`, `--nodes` and `--engine`: one comparison by many processes, of which one speaks."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from torchbcos._core.errors import BcosError
from torchbcos.cli.common import MACHINE, say, voice
from torchbcos.cli.program import INTERRUPTED

if TYPE_CHECKING:
    from torchbcos.evaluation.engines import Engine

__all__ = ["Devices", "EngineName", "EngineOption", "Nodes", "one_voice", "start"]


_TERMINATED = 143
_SPEAKS = 3.0  # seconds for the first process to say it: when one has ended, torchrun ends all


class EngineName(str, enum.Enum):
    """What starts the processes."""

    torchrun = "torchrun"
    ray = "ray"


Devices = Annotated[
    str | None,
    typer.Option(
        "--devices", metavar="N", show_default="1; with ray auto", rich_help_panel=MACHINE,
        help="How many devices of this machine (processes, on a CPU: one for each core is fastest); auto: all CUDA devices.",
    ),
]  # fmt: skip
Nodes = Annotated[
    int, typer.Option("--nodes", metavar="N", min=1, rich_help_panel=MACHINE, help="How many machines, each with this command.")
]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        rich_help_panel=MACHINE,
        help="torchrun: processes of this machine, or of those that each run this command; ray: workers of a Ray cluster, that "
        "of RAY_ADDRESS or one of this machine's own, for millions of pictures.",
    ),
]


def start(engine: EngineName, devices: str | None, nodes: int) -> Engine:
    """Who does the work; where this command starts the others, it waits for them and leaves.

    Raises:
        InputError: there are no such devices or machines.
        StateError: a process was killed.
    """
    from torchbcos.evaluation.engines import Engine, ranks

    if engine is EngineName.ray:
        from torchbcos.evaluation.ray_engine import Ray

        return Ray(devices or "auto")

    if ranks()[1] > 1:
        from torchbcos.evaluation.processes import Processes

        return Processes()
    if devices in (None, "1") and nodes == 1:
        return Engine()
    from torchbcos.evaluation.launching import how_many, launch

    code = launch([sys.executable, "-m", "torchbcos.cli", *sys.argv[1:]], how_many(devices or "1"), nodes)
    voice.answered = True  # by the first process
    if code == _TERMINATED:  # Ctrl-C reaches the first process, too, which answers it
        say("torchbcos: interrupted; what was finished is kept.")
    raise typer.Exit(code)


@contextmanager
def one_voice(engine: Engine) -> Iterator[None]:
    """Processes that are not the first end without a word, if the first knows why."""
    try:
        yield
    except (BcosError, KeyboardInterrupt) as error:
        if engine.first or not (isinstance(error, KeyboardInterrupt) or engine.told):
            raise
        voice.answered = True
        if isinstance(error, BcosError):
            time.sleep(_SPEAKS)
        raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 2) from None
