"""`make test-torch` asks for the torchvision that belongs to a torch, in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def planned(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would do."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    # elsewhere than in our own environment, whose Makefile may be running these tests
    return subprocess.run(
        ["make", "-n", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip


@pytest.mark.parametrize(("torch", "vision"), [("2.6.0", "0.21.0"), ("2.8.0", "0.23.0"), ("2.14.1", "0.29.1")])
def test_a_release_and_its_torchvision_in_their_own_environment(torch: str, vision: str) -> None:
    done = planned("test-torch", f"TORCH={torch}", f"VENV_OF_TORCH=.venv-{torch}-planned")
    assert done.returncode == 0, done.stderr
    assert f"torch=={torch} torchvision=={vision}" in done.stdout
    assert f".venv-{torch}-planned/bin/python -m pytest" in done.stdout


def test_the_newest_is_not_pinned_and_a_release_has_to_be_named() -> None:
    done = planned("test", "VENV=.venv-planned")
    assert done.returncode == 0 and "pip-version-check torch torchvision\n" in done.stdout
    done = planned("test-torch")
    assert done.returncode != 0 and "make test-torch TORCH=2.6.0" in done.stderr
