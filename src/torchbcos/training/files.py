"""Until the loop is rewritten: the names that moved to `torchbcos.runs`, and Lightning's writer of whole files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from torchbcos.runs.folder import BEST as BEST
from torchbcos.runs.folder import LAST as LAST
from torchbcos.runs.folder import PREVIOUS as PREVIOUS
from torchbcos.runs.folder import write_whole as write_whole
from torchbcos.runs.history import History as History


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and moves it there; the one before is kept."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            StateError: the disk is full or may not be written; what was there is still there.
        """
        path = Path(path)
        write_whole(checkpoint, path, keep=path.with_name(PREVIOUS) if path.name == LAST else None)
