"""Predictions on the way, so that an interrupted measurement goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import StateError
from torchbcos._core.files import finite_or_null, replacing
from torchbcos._core.stored import load_stored
from torchbcos.judging.outputs import Outputs

__all__ = ["SavedOutputs", "fingerprint"]


class SavedOutputs:
    """A hidden file beside the result that is being made.

    Args:
        result: the file that will hold the result.
        key: what the predictions depend on (model, weights, split); predictions of another key count as none.
    """

    def __init__(self, result: Path, key: Any) -> None:
        self.file = result.with_name(f".{result.name}.partial")
        self.key = json.dumps(finite_or_null(key), sort_keys=True, default=str, allow_nan=False)

    def read(self) -> Outputs | None:
        """What was predicted so far; None where there is no such file, or it is damaged or about something else."""
        if not self.file.is_file():  # a pipe would never end
            return None
        try:
            found = load_stored(self.file)
            outputs = Outputs(**found["outputs"]) if found["key"] == self.key else None
            return outputs if outputs is not None and _is_whole(outputs) else None
        except Exception:  # any foreign content, of which torch and we expect different things
            return None

    def write(self, outputs: Outputs) -> None:
        """Keep what was predicted so far.

        Raises:
            StateError: it cannot be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as partial:
                torch.save({"key": self.key, "outputs": asdict(outputs)}, partial)
        except (OSError, RuntimeError) as error:
            raise StateError(f"Could not write {str(self.file)!r}: {str(error).splitlines()[0]}.") from None

    def remove(self) -> None:
        """Remove the file, once the result is written."""
        self.file.unlink(missing_ok=True)


def _is_whole(outputs: Outputs) -> bool:
    count = len(outputs.rows)
    return (
        isinstance(outputs.logits, Tensor) and isinstance(outputs.targets, Tensor)
        and outputs.logits.dim() == 2 and outputs.logits.dtype == torch.float32
        and len(outputs.logits) == len(outputs.targets) == count == len(set(outputs.rows))
        and len(outputs.unreadable) == len(outputs.failures)
        and all(isinstance(row, int) for row in (*outputs.rows, *outputs.unreadable))
        and all(isinstance(text, str) for text in outputs.failures)
    )  # fmt: skip


def fingerprint(network: nn.Module) -> str:
    """A hash of all weights: the best, the last and the averaged weights of one run share a card.

    >>> fingerprint(nn.Linear(2, 2)) == fingerprint(nn.Linear(2, 2))
    False
    """
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
