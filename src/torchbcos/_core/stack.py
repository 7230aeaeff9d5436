"""Who called: read from the stack, where nothing else tells."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["in_checkpoint"]


def in_checkpoint(function: str | None = None) -> bool:
    """Whether a function of torch.utils.checkpoint, or the one of this name, is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint" and function in (None, frame.f_code.co_name):
            return True
        frame = frame.f_back
    return False
