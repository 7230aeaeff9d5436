"""The size of the signals or volumes that a network was trained on: of others, its answers may mean little."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from torchbcos._core.numbers import positive_integer
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card

__all__ = ["mark_as_said", "other_size", "trained_sides", "warn_of_size"]

_MOST = 2**26  # samples or voxels that a card may note: it may be a stranger's
_PARTS = {1: "samples", 2: "pixels", 3: "voxels"}
_said: set[str] = set()  # sizes of which this process has heard


def trained_sides(card: Card, prepare: Preprocess) -> tuple[int, ...] | None:
    """Sides of the examples that a run saw, as its card notes them: raw, (channels, *S); None where it does not."""
    shape = card.notes.get("example") if isinstance(card.notes, Mapping) else None
    if not isinstance(shape, (list, tuple)) or len(shape) != 1 + prepare.axes or shape[0] != prepare.raw_channels:
        return None
    sides = tuple(side for side in map(positive_integer, shape[1:]) if side is not None)
    return sides if len(sides) == prepare.axes and math.prod(sides) <= _MOST else None


def other_size(trained: Sequence[int] | None, sides: Sequence[int], kind: str) -> str | None:
    """A sentence where an input has another size than those that were trained on; None where it has not.

    Args:
        trained: see `trained_sides`.
        sides: (*S) of the input.
        kind: "signal" or "volume".

    >>> other_size((256,), (300,), "signal")
    'This model was trained on signals of 256 samples; this one has 300. Its answer may mean little.'
    >>> other_size((256,), (256,), "signal")
    """
    if trained is None or tuple(trained) == tuple(sides):
        return None
    there, here = (" x ".join(map(str, size)) for size in (trained, sides))
    swapped = sorted(trained) == sorted(sides)
    end = "Are its axes in another order?" if swapped else "Its answer may mean little."
    return f"This model was trained on {kind}s of {there} {_PARTS[len(trained)]}; this one has {here}. {end}"


def warn_of_size(note: str | None) -> None:
    """Warn of what `other_size` says, once for each size that was trained on."""
    if note is not None and mark_as_said(note):
        warnings.warn(f"{note} (Said once.)", stacklevel=5)


def mark_as_said(note: str) -> bool:
    """Whether nobody has said so in this process yet; from now on somebody has: a program, in its own way."""
    kind = note.partition(";")[0]
    new = kind not in _said
    _said.add(kind)
    return new
