"""What a tensor is while an explanation runs: one of four kinds."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["ACTIVATED", "CONSTANT", "GATE", "LINEAR", "Bend", "Kind", "Known", "Place"]


class Kind(Enum):
    """How a tensor depends on the explained input (docs/explanation/kinds.md).

    Attributes:
        CONSTANT: not at all: parameters, buffers, numbers.
        GATE: somehow, and it is held: a factor of other things, nothing else.
        LINEAR: as a linear map of the input, once the gates are held, plus named constants.
        BENT: in another way. As a factor it is held; nothing else can be done with it.
    """

    CONSTANT = "constant"
    GATE = "gate"
    LINEAR = "linear"
    BENT = "bent"


class Place(NamedTuple):
    """Where in a network an operation ran: the name and the class of the innermost module around it."""

    name: str
    family: str
    package: str = ""


class Bend(NamedTuple):
    """Why a tensor is no linear map of the input: what was done to it, and where."""

    operation: str
    place: Place
    why: str = ""
    help: str = ""


class Known(NamedTuple):
    """What is known of one tensor.

    Attributes:
        kind: of four.
        activated: linear, and the output of an activation, or what views and numbers made of it.
        bend: where it was bent first.
    """

    kind: Kind
    activated: bool = False
    bend: Bend | None = None


CONSTANT = Known(Kind.CONSTANT)
GATE = Known(Kind.GATE)
LINEAR = Known(Kind.LINEAR)
ACTIVATED = Known(Kind.LINEAR, activated=True)
