"""What all tests share: one thread, seeds, hypothesis' profile, and the data folder."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("torchbcos", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("torchbcos")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real pictures; tests that need it skip without it."""
    folder = Path(os.environ.get("TORCHBCOS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}: set TORCHBCOS_DATA")
    return folder
