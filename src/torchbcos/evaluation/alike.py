"""What makes numbers depend on the process that computes them, held still while a comparison runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["alike"]


@contextmanager
def alike(threads: int = 1) -> Iterator[None]:
    """Compute as every other process of a comparison does; afterwards all is as the caller had it.

    Sums are split over threads, and each way to split one rounds differently (4e-7 of the largest value of a map, measured), so
    a number of processes agrees to the last bit only if each has as many threads. torchrun gives each process one, a program
    alone has one for each processor: neither is asked here. Denormal numbers are kept, as IEEE 754 has them, and cuDNN neither
    tries algorithms out nor takes any that rounds differently each time.

    >>> with alike():
    ...     torch.get_num_threads()
    1
    """
    cudnn = torch.backends.cudnn
    before, denormals, tried, exact = torch.get_num_threads(), sys.float_info.min / 2 > 0, cudnn.benchmark, cudnn.deterministic
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(not denormals)
        cudnn.benchmark, cudnn.deterministic = tried, exact
