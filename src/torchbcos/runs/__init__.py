"""The folder of one training run: its files, who writes them and how they are read."""

from __future__ import annotations

from torchbcos.runs.folder import OWN_WEIGHTS as OWN_WEIGHTS
from torchbcos.runs.folder import RunFolder as RunFolder
from torchbcos.runs.held_out import HELD_OUT as HELD_OUT
from torchbcos.runs.held_out import read_held_out as read_held_out
from torchbcos.runs.held_out import write_held_out as write_held_out
from torchbcos.runs.history import History as History
from torchbcos.runs.provenance import provenance as provenance

__all__ = ["HELD_OUT", "OWN_WEIGHTS", "History", "RunFolder", "provenance", "read_held_out", "write_held_out"]
