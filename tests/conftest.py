"""What all tests share: one thread, seeds, hypothesis' profile, tolerances, and the data folder."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

# On CI the same examples every time: a red run is red again on the next machine.
hypothesis.settings.register_profile("torchbcos", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("torchbcos")

torch.set_num_threads(1)

# Started in the background of a shell, Python ignores Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Largest difference, relative to the scale of what is compared, that rounding alone explains.
# float64 and float32 are the laws' own (|residual|); half precision accumulates in float32.
TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 5e-2,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _processor() -> Iterator[None]:
    """Denormals that one test turns into zeros are wrong numbers in the next, and only in some orders of tests."""
    yield
    left = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(False)
    assert not left, "this test left the processor flushing denormal numbers"


@pytest.fixture(scope="session")
def tolerances() -> Mapping[torch.dtype, float]:
    """Largest relative difference by dtype."""
    return TOLERANCES


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real pictures; tests that need it skip without it."""
    folder = Path(os.environ.get("TORCHBCOS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no folder of pictures at {folder}; TORCHBCOS_DATA names another one")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compile and export are promised from the release they were tested on; the rest from torch 2.6."""
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) >= (2, 14):
        return
    skip = pytest.mark.skip(reason=f"torch {torch.__version__}: promised from 2.14")
    for item in items:
        if item.get_closest_marker("newest"):
            item.add_marker(skip)
