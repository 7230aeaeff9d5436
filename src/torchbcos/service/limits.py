"""What a service takes at most, of one request and of all together."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torchbcos._core.errors import InputError

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Everything that a stranger could make large.

    Attributes:
        bytes: of an uploaded picture.
        held: bytes of all uploads that are read or decoded at a time; the next one is refused (429).
        pixels: of a picture, judged from its header before it is decoded.
        queue: requests that wait for the network; the next one is refused (429).
        batch: pictures that go through the network together.
        top_k: classes that one request names or asks for.
        models: that are in memory; another one takes the place of the one that was not used for longest.
        upload_seconds: in which a picture must have arrived (408).
        seconds: from then to the answer (503); what was not begun by then is not computed.

    Raises:
        InputError: one of them is no positive number.

    >>> Limits(queue=0)
    Traceback (most recent call last):
    torchbcos._core.errors.InputError: The limit queue is a positive number, not 0.
    """

    bytes: int = 32_000_000
    held: int = 512_000_000
    pixels: int = 100_000_000
    queue: int = 64
    batch: int = 16
    top_k: int = 20
    models: int = 2
    upload_seconds: float = 20.0
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = "seconds" not in field.name
            fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not fits or not 0 < value < math.inf:
                raise InputError(f"The limit {field.name} is a positive number, not {value!r}.")
