"""Names: nearest matches for typing errors, and natural order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that reads numbers as numbers.

    >>> sorted(["resnet101", "resnet18"], key=natural_key)
    ['resnet18', 'resnet101']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]


def nearest(word: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """The known names most like `word`, best first.

    >>> nearest("resnet5", ["resnet50", "vgg11"])
    ['resnet50']
    """
    names = {name.lower(): name for name in known}
    return [names[m] for m in difflib.get_close_matches(word.lower(), names, n=limit, cutoff=0.5)]


def hint(word: str, known: Iterable[str]) -> str:
    """A tail for an error message: " Did you mean 'a' or 'b'?", or nothing.

    >>> hint("tensh", ["tench", "church"])
    " Did you mean 'tench'?"
    """
    close = [repr(name) for name in nearest(word, known)]
    return f" Did you mean {' or '.join(close)}?" if close else ""
