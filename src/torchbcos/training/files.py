"""What a run leaves on disk: checkpoints that are whole or not there, a history, and what it was made of."""

from __future__ import annotations

import csv
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from torchbcos._core.errors import StateError, WeightsError
from torchbcos._core.files import replacing

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and moves it there; the one before is kept."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            StateError: the disk is full or may not be written; what was there is still there.
        """
        write_whole(checkpoint, Path(path))


def write_whole(value: Any, path: Path) -> None:
    """`torch.save` that leaves the old file or the new one, never half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as partial:
            torch.save(value, partial)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StateError(
            f"Could not write the checkpoint {str(path)!r}: {reason}. The one before is kept: make room, and the same command "
            "goes on."
        ) from None


def read_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The last checkpoint of a run that can be read, and a sentence for each that cannot.

    Raises:
        WeightsError: there are checkpoints, and none can be read.
    """
    told: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(found, dict) and "torchbcos" in found:
                return found, told
            told.append(f"{str(path)!r} is no checkpoint of torchbcos.")
        except Exception as error:  # whatever a damaged file makes torch raise
            told.append(f"{str(path)!r} is damaged ({type(error).__name__}).")
    if told:
        raise WeightsError(f"{' '.join(told)} No other checkpoint of this run is left: begin again with another --out.")
    return None, told


def read_best(folder: Path) -> dict[str, Any]:
    """The best weights of a run.

    Raises:
        WeightsError: they are not there, or damaged.
    """
    path = folder / BEST
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True)["state"])
    except FileNotFoundError:
        said = "is gone"
    except Exception as error:  # whatever a damaged file makes torch raise
        said = f"is damaged ({type(error).__name__})"
    raise WeightsError(f"{str(path)!r} {said}: --set export=last takes the last weights (ema: averaged ones, if there are any).")


def sweep(*folders: Path) -> None:
    """Remove what a killed run was writing when it died."""
    for folder in folders:
        for partial in folder.glob(".*.part"):
            partial.unlink(missing_ok=True)


class History:
    """`history.csv`: a row whenever something was measured; rows after a resumed step are dropped."""

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        self.rows: list[dict[str, str]] = []
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                self.rows = [row for row in csv.DictReader(lines) if row.get("step", "").isdigit() and int(row["step"]) <= step]

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row, and write the file anew: it is short."""
        self.rows.append({key: f"{v:.6g}" if isinstance(v, float) else str(v) for key, v in values.items()})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.file) as partial, partial.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def surroundings() -> dict[str, Any]:
    """Versions, machine and git state: what a number was got with."""
    packages = {}
    for name in ("torchbcos", "torch", "torchvision", "lightning", "torchmetrics", "timm", "pillow", "numpy"):
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
