"""With what a run was made: versions of packages, the machine, and the state of the code."""

from __future__ import annotations

import platform
import re
import subprocess
import time
from importlib import metadata
from typing import Any

__all__ = ["git_state", "provenance", "version_of"]

_PACKAGES = ("torchbcos", "torch", "torchvision", "lightning", "torchmetrics", "timm", "pillow", "numpy")


def provenance() -> dict[str, Any]:
    """Python's version, the processor's kind, the time of the call, git's commit, and the version of every package at hand."""
    packages = {name: found for name in _PACKAGES if (found := version_of(name)) is not None}
    return {
        "python": platform.python_version(), "machine": platform.machine(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"), "git": git_state(), **packages,
    }  # fmt: skip


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not installed.

    >>> version_of("nothing-of-this-name") is None
    True
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_state() -> str:
    """The commit of the working folder, "+changes" where files differ, "" outside of git.

    git itself runs programs that a folder's own settings name (`core.fsmonitor`, `filter.…`) when it looks for changes, and a
    folder may be a stranger's: where there are such settings, it says "+changes?".
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        if commit is None:
            return ""
        settings = _git("config", "--list", "--name-only", "--show-scope", "--includes")
        if settings is None or any(_RUNS.match(line) for line in settings.splitlines()):
            return f"{commit}+changes?"
        changes = _git("-c", "core.fsmonitor=false", "status", "--porcelain", "-uno", "--ignore-submodules=all")
        return commit + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


# Settings of the folder alone: those of the person and of the machine are trusted.
_RUNS = re.compile(
    r"(local|worktree)\s+(core\.(fsmonitor|hookspath|worktree|sshcommand|gitproxy)|filter\..*|includeif\..*)", re.IGNORECASE
)


def _git(*words: str) -> str | None:
    """What a command of git prints; None where it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10)
    return None if done.returncode else done.stdout.strip()
