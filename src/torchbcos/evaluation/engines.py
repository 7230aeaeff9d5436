"""Who does the work of a comparison: this process alone, many processes, or a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.names import whole_number
from torchbcos.data.loading import Examples
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.reporting import Comparison
from torchbcos.evaluation.units import Worker
from torchbcos.judging import Outputs, ProgressBar, SavedOutputs, predict_split

__all__ = ["Engine", "ranks"]


class Engine:
    """This process alone does everything, one unit after the other. Others differ in who does what, never in a number.

    An engine is entered for one comparison after the other: `with engine: ...`.
    """

    first = True  # whether this process looks, chooses and reports
    told = False  # whether another process says what went wrong in this one

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def device(self, asked: str) -> str:
        """The device of this process."""
        return asked

    def check(self, kept: bool, opening: Mapping[str, Any]) -> None:
        """Refuse what this engine cannot do, before anything is computed.

        Args:
            kept: whether maps and numbers are kept in a folder that somebody named.
            opening: `device`, `allow_code` and `threads` of the comparison.

        Raises:
            InputError: it cannot.
        """

    def predict(
        self, model: Measured, examples: Examples, *, batch_size: int, workers: int, saved: SavedOutputs | None,
        progress: ProgressBar | None,
    ) -> Outputs:  # fmt: skip
        """What a model says of candidates."""
        return predict_split(
            model.model, examples, batch_size=batch_size, workers=workers, on_error="skip", progress=progress, saved=saved
        )

    def decide(self, draft: Worker, choose: Callable[[], Worker]) -> Worker:
        """The worker with its plan.

        Args:
            draft: a worker whose plan has no items yet.
            choose: looks at the candidates and chooses items.
        """
        return choose()

    def run(self, worker: Worker, progress: ProgressBar | None) -> None:
        """Do all units."""
        units = worker.units()
        for unit in progress(units, len(units)) if progress else units:
            worker.run(unit)

    def report(self, make: Callable[[], Comparison]) -> Comparison:
        """The comparison; processes that are not the first get its facts and costs, and no values."""
        return make()


def ranks(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """The number of this process and how many there are, as torchrun says in the environment.

    Raises:
        InputError: what is there are no such numbers.

    >>> ranks({}), ranks({"RANK": "1", "WORLD_SIZE": "3"})
    ((0, 1), (1, 3))
    """
    found = os.environ if environment is None else environment
    if "RANK" not in found or "WORLD_SIZE" not in found:
        return 0, 1
    rank, world = whole_number(found["RANK"]), whole_number(found["WORLD_SIZE"])
    if rank is None or world is None or not 0 <= rank < world:
        raise InputError(
            "RANK and WORLD_SIZE in the environment are not a process and how many there are: start processes by torchrun, or "
            "unset both."
        )
    return rank, world
