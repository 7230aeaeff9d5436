"""Interleaved timings on a shared machine: pairs of one round, medians of ratios, disturbed samples discarded."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TICKS = 100  # of /proc/stat, a second
QUIET = 0.15  # cores that others may use during a sample
SHORT = 0.15  # seconds: a sample repeats its work until it has lasted as long


@dataclass
class Times:
    """Seconds of every round for every contestant; None where a sample was disturbed."""

    rounds: dict[str, list[float | None]] = field(default_factory=dict)
    discarded: int = 0

    def median(self, name: str) -> float:
        """Median seconds of the undisturbed samples."""
        good = [t for t in self.rounds[name] if t is not None]
        return statistics.median(good) if good else float("nan")

    def ratio(self, name: str, base: str) -> tuple[float, int]:
        """Median of paired ratios, and how many pairs there were."""
        pairs = [a / b for a, b in zip(self.rounds[name], self.rounds[base], strict=True) if a is not None and b is not None]
        return (statistics.median(pairs) if pairs else float("nan")), len(pairs)


def busy() -> float:
    """CPU seconds that all processes of this machine have used, or 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    fields = [int(v) for v in stat.read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / TICKS


def sample(work: Callable[[], object]) -> tuple[float, bool]:
    """Seconds of one call, and whether other processes took more than `QUIET` cores meanwhile."""
    calls, began, everyone, own = 0, time.perf_counter(), busy(), time.process_time()
    while True:
        work()
        calls += 1
        passed = time.perf_counter() - began
        if passed >= SHORT:
            break
    others = (busy() - everyone) - (time.process_time() - own)
    return passed / calls, others > QUIET * passed + 2 / TICKS


def interleave(works: dict[str, Callable[[], object]], rounds: int, *, retries: int = 2) -> Times:
    """Run all works in turn, `rounds` times after one uncounted round; disturbed samples get `retries` more tries."""
    times = Times({name: [] for name in works})
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            seconds: float | None = None
            for _ in range(retries + 1):
                measured, disturbed = sample(work)
                if not disturbed:
                    seconds = measured
                    break
                times.discarded += 1
            times.rounds[name].append(seconds)
    return times
