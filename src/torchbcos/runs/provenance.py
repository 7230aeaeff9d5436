"""With what a run was made: versions of packages, the machine, and the state of the code."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib import metadata
from typing import Any

__all__ = ["git_state", "provenance"]

_PACKAGES = ("torchbcos", "torch", "torchvision", "lightning", "torchmetrics", "timm", "pillow", "numpy")


def provenance() -> dict[str, Any]:
    """Python's version, the processor's kind, the time of the call, git's commit, and the version of every package at hand."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(), "machine": platform.machine(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"), "git": git_state(), **packages,
    }  # fmt: skip


def git_state() -> str:
    """The commit of the working folder, "+changes" where files differ, "" outside of git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10)
        if commit.returncode:
            return ""
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
        return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return ""
