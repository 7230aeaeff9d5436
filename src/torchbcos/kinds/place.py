"""Which module runs here: read from the stack, so that no hook stands on anybody's network."""

from __future__ import annotations

import sys
from types import FrameType

from torch import nn

from torchbcos._core.names import quote
from torchbcos.kinds.kind import Bend, Place

__all__ = ["place_here", "placed"]


def place_here(names: dict[int, str]) -> Place:
    """The innermost module of the explained network whose code runs here.

    Args:
        names: the name of each of its modules, by `id`.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount or code.co_posonlyargcount:
            given = frame.f_locals.get(code.co_varnames[0])
            if isinstance(given, nn.Module) and id(given) in names:
                return Place(names[id(given)], type(given).__name__, type(given).__module__)
        frame = frame.f_back
    return Place("", "")


def placed(bend: Bend) -> str:
    """An operation and its place, in words."""
    place = bend.place
    outside = f" in the forward of {place.family}" if place.family else ""
    return f"{bend.operation!r}{f' in {quote(place.name)} ({place.family})' if place.name else outside}"
