"""What part of a picture a network looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Seen"]

_WHOLE = 0.99  # from here on nobody misses the rest


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What part of a picture a network looks at.

    Attributes:
        fit: "crop" (the centre is cut out) or "letterbox" (the whole picture, with bars).
        share: of the picture's area, in (0, 1].
        box: left, top, right and bottom of that part in pixels of the upright picture.

    >>> Seen(fit="crop", share=1 / 3, box=(100, 0, 200, 100)).note
    'centre crop, 33 % of the picture'
    """

    fit: str
    share: float
    box: tuple[int, int, int, int]

    @property
    def note(self) -> str:
        """What a reader must know; empty where the network sees as good as all of it."""
        if self.fit == "letterbox":
            return "whole picture, letterboxed"
        if self.share >= _WHOLE:
            return ""
        return f"centre crop, {max(self.share, 0.0001):.{0 if self.share >= 0.01 else 2}%} of the picture".replace("%", " %")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON.

        >>> Seen(fit="crop", share=0.5, box=(1, 0, 3, 2)).to_dict()
        {'fit': 'crop', 'share': 0.5, 'box': [1, 0, 3, 2]}
        """
        return {"fit": self.fit, "share": self.share, "box": list(self.box)}
