"""Names in messages: quoted, the nearest ones to a typing error, those beside a missing file; and natural order."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable

from torchbcos._core.errors import shorten

__all__ = ["LONGEST_CLASS", "class_name_fault", "hint", "look_alike_key", "natural_key", "nearby", "nearest", "quote"]

_LONGEST = 220  # of a name in a message: 500 characters hold two of them and a sentence
LONGEST_CLASS = 200  # characters of the name of a class: ImageNet's fit with all their synonyms
# Categories of Unicode that no name of a class holds: control characters, line and paragraph separators, halves of characters.
_NO_TEXT = {"Cc": "the control character", "Zl": "the line separator", "Zp": "the paragraph separator", "Cs": "half a character,"}
# Marks that turn the direction of the text around them, so that a line reads otherwise than it is written.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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


def class_name_fault(name: str) -> str | None:
    """What is wrong with the name of a class, as the rest of a sentence that begins with the name; None where nothing is.

    A name holds something, on one line, in at most `LONGEST_CLASS` characters, without control characters and without marks
    that turn the direction of writing: it goes to terminals, into file names and into pictures.

    >>> class_name_fault("Siamese cat"), class_name_fault(" "), class_name_fault("a\\x1b[2J")
    (None, 'is empty', 'contains the control character U+001B')
    """
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST_CLASS:
        return f"has {len(name):,} characters, more than {LONGEST_CLASS}"
    for character in name:
        what = _NO_TEXT.get(unicodedata.category(character))
        if what is not None:
            return f"contains {what} U+{ord(character):04X}"
        if character in _TURNS:
            return f"contains the mark U+{ord(character):04X}, which turns the direction of writing"
    return None


def look_alike_key(name: str) -> str:
    """What names have in common that differ only in case, spaces, invisible marks or in how Unicode writes a letter.

    >>> look_alike_key("Cafe\\u0301 au\\u00a0lait") == look_alike_key("caf\\u00e9  AU lait\\u200b")
    True
    """
    shown = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return " ".join(shown.casefold().split())


def quote(path: object) -> str:
    """A path as it stands in messages: in quotation marks, on one line, its end (the file's name) always there.

    >>> quote("a\\nb.png")
    "'a\\\\nb.png'"
    """
    return shorten(repr(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else repr(path), _LONGEST)


def nearby(path: str | os.PathLike[str]) -> str:
    """A tail for the message that `path` does not exist: names like it beside it, or that its folder is missing, too.

    >>> nearby("https://example.org/a.jpg"), nearby("/no/such/folder/a.jpg")
    (' Addresses are not read: download the file first.', " There is no folder '/no/such/folder' either.")
    """
    text = os.fspath(path)
    if "://" in text[:10] or re.match(r"https?:/", text):  # pathlib makes one slash of two
        return " Addresses are not read: download the file first."
    folder, name = os.path.split(os.path.normpath(text))
    try:
        if not os.path.isdir(folder or "."):
            return f" There is no folder {quote(folder)} either."
        return hint(name, os.listdir(folder or "."))
    except (OSError, ValueError):
        return ""
