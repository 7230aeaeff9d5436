"""What a run was made with, inside git, outside of it, and without it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from torchbcos.runs import provenance
from torchbcos.runs.provenance import git_state


def test_versions_and_machine() -> None:
    found = provenance()
    assert found["python"] == platform.python_version() and found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"machine", "started", "git", "numpy", "torchbcos"} <= set(found)


def test_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == ""
    (tmp_path / "a.txt").write_text("one")
    for words in ("init", "add a.txt", "-c user.name=a -c user.email=a@b.c commit -m one"):
        subprocess.run(["git", *words.split()], check=True, capture_output=True)
    commit = git_state()
    assert len(commit) == 12
    (tmp_path / "a.txt").write_text("two")
    assert git_state() == f"{commit}+changes"
    monkeypatch.setenv("PATH", "")
    assert git_state() == ""


@pytest.mark.parametrize("how", ["core.fsmonitor", "filter.x.clean", "filter.x.process"])
def test_a_folder_that_would_have_git_run_something(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder from a stranger has settings of its own, and git runs what they name when it looks for changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one")
    for words in ("init", "add a.txt", "-c user.name=a -c user.email=a@b.c commit -m one"):
        subprocess.run(["git", *words.split()], check=True, capture_output=True)
    (tmp_path / ".gitattributes").write_text("*.txt filter=x\n")
    subprocess.run(["git", "config", how, f"touch {tmp_path / 'marker'}; cat"], check=True)
    os.utime(tmp_path / "a.txt", (1, 1))
    assert git_state().endswith("+changes?") and not (tmp_path / "marker").exists()
    subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True)
    assert (tmp_path / "marker").exists()  # what it would have run, it can
