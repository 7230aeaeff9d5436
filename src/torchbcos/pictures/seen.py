"""What part of a picture a network looks at, and what a scan's file says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from torchbcos._core.letters import printable

__all__ = ["Placed", "Seen"]

_WHOLE = 0.99  # from here on nobody misses the rest


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What part of a picture a network looks at.

    Attributes:
        fit: "crop" (the centre is cut out), "letterbox" (the whole picture, with bars) or "squash" (made a square first).
        share: of the picture's area, in (0, 1].
        box: left, top, right and bottom of that part in pixels of the upright picture.
        scan: what a scan's file says of its numbers (see `torchbcos.pictures.Scan`); None where it is no scan.

    >>> Seen(fit="crop", share=1 / 3, box=(100, 0, 200, 100)).note
    'centre crop, 33 % of the picture'
    """

    fit: str
    share: float
    box: tuple[int, int, int, int]
    scan: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def note(self) -> str:
        """What a reader must know: how much is seen, if not all, and the window of a scan."""
        return ", ".join(word for word in (self._part(), self._window()) if word)

    def _window(self) -> str:
        """The stored numbers that a scan shows as 0 and 1: "window -160 to 240 HU"."""
        ends = (self.scan or {}).get("window")
        if not isinstance(ends, Sequence) or [type(end) in (int, float) for end in ends] != [True, True]:
            return ""
        unit = printable(str((self.scan or {}).get("unit") or ""))
        return f"window {ends[0]:g} to {ends[1]:g} {unit}".rstrip()

    def _part(self) -> str:
        if self.fit == "letterbox":
            return "whole picture, letterboxed"
        if self.share >= _WHOLE:
            return "whole picture, squashed to a square" if self.fit == "squash" else ""
        squashed = "squashed to a square, " if self.fit == "squash" else ""
        return f"{squashed}centre crop, {max(self.share, 0.0001):.{0 if self.share >= 0.01 else 2}%} of the picture".replace(
            "%", " %"
        )

    def to_dict(self) -> dict[str, Any]:
        """The part that is seen, ready for JSON.

        >>> Seen(fit="crop", share=0.5, box=(1, 0, 3, 2)).to_dict()
        {'fit': 'crop', 'share': 0.5, 'box': [1, 0, 3, 2]}
        """
        return {"fit": self.fit, "share": self.share, "box": list(self.box)}


@dataclass(frozen=True, eq=False)
class Placed:
    """An input that was read, resized and cut, and not yet encoded: `Preprocess.placed` makes it, every classifier of that
    preprocessing takes it. A large picture becomes a small one before anybody waits for the network.

    Attributes:
        pixels: (C, *S) float32 in [0, 1].
        seen: what part of the picture that is.
    """

    pixels: Tensor
    seen: Seen
