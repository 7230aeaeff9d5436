"""Compiled functions inside a network, while it is watched: they run as they were written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

from torchbcos._core.torch_private import may_hold_compiled

__all__ = ["eagerly"]

_lock = threading.Lock()
_stances: list[Any] = []  # what the first explanation of several set, and the last one takes back
_running = 0


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Inside this block functions made by `torch.compile` run without their compiled code.

    The switch is torch's own and holds for all threads: elsewhere the same numbers are computed, more slowly. It is touched
    only where something was compiled in this process, and explanations in several threads share it.
    """
    global _running
    if not may_hold_compiled():
        yield
        return
    with _lock:
        if not _running:
            _stances.append(torch.compiler.set_stance("force_eager"))
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                _stances.pop().__exit__(None, None, None)
