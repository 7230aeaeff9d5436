"""Names in messages: quoted, the nearest ones to a typing error, those beside a missing file; and natural order.

Names come from strangers: class names from a card, files from an archive. What is printed, drawn or made into a file name passes
one rule (`letters.unseen`): none of them moves a cursor, turns the text around or hides in it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from torchbcos._core.errors import shorten
from torchbcos._core.letters import printable, unseen

__all__ = [
    "LONGEST_CLASS", "LONGEST_FILE", "brief", "class_name_fault", "disk_key", "file_parts", "fit_name", "hint",
    "look_alike_key", "natural_key", "nearby", "nearest", "panel_name", "quote", "said", "slug", "whole_number",
]  # fmt: skip

_DIGITS = 18  # of a number that counts anything
_LONGEST = 220  # of a name in a message: 500 characters hold two of them and a sentence
LONGEST_CLASS = 200  # characters of the name of a class: ImageNet's fit with all their synonyms
# Categories of Unicode that no name of a class holds: control characters, line and paragraph separators, halves of characters.
_NO_TEXT = {"Cc": "the control character", "Zl": "the line separator", "Zp": "the paragraph separator", "Cs": "half a character,"}
# Marks that turn the direction of the text around them, so that a line reads otherwise than it is written.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LONGEST_LABEL = 100  # of a class name in a line or a file name
LONGEST_FILE = 255  # bytes, on nearly every file system
_CUT = "~"  # before the mark of a file name that was changed
_NOT_IN_FILES = set('/\\:*?"<>|')  # on one system or another


def brief(name: str) -> str:
    """A class name as it stands in a line that is printed: printable, and cut in the middle where it is very long.

    >>> brief("tench"), len(brief("x" * 5000))
    ('tench', 100)
    """
    return shorten(printable(name[: 10 * _LONGEST_LABEL]), _LONGEST_LABEL)


def slug(name: str) -> str:
    """A class name as a part of a file name: no space, nothing unseen, nothing that a file system takes for its own.

    >>> slug("English springer"), slug("and/or"), slug("a\\n\\x1b[5m")
    ('English-springer', 'and-or', 'a--[5m')
    """
    text = name[: 10 * _LONGEST_LABEL]
    clean = "".join("-" if unseen(text, i) or c.isspace() or c in _NOT_IN_FILES else c for i, c in enumerate(text))
    return fit_name(clean, _LONGEST_LABEL)


def file_parts(names: Sequence[str]) -> list[str]:
    """How each of the names is called in file names: no two alike, not even where a disk takes "a" and "A" for the same.

    >>> file_parts(["tench", "and/or", "and or", ""])
    ['tench', 'and-or-1', 'and-or-2', '-3']
    """
    parts = [slug(name) for name in names]
    often = Counter(map(disk_key, parts))
    alone = {part for part, count in often.items() if part and count == 1}
    found, taken = [], set(alone)
    for i, part in enumerate(parts):
        if disk_key(part) not in alone:
            part = f"{part}-{i}"
            while disk_key(part) in taken:  # a name that ends in a number itself
                part += f"-{i}"
            taken.add(disk_key(part))
        found.append(part)
    return found


def disk_key(part: str) -> str:
    """What names have in common that some disk takes for one: case, and how Unicode writes a letter."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())


def panel_name(picture: str, explained: str, contrast: str | None = None, suffix: str = ".png") -> str:
    """The file name of one explanation of a picture; the classes as `file_parts` calls them.

    >>> panel_name("bus.jpg", "tench"), panel_name("bus.jpg", "tench", "church", ".pdf")
    ('bus.jpg.tench.png', 'bus.jpg.tench-not-church.pdf')
    """
    tail = f".{explained}" + (f"-not-{contrast}" if contrast is not None else "") + suffix
    return fit_name(picture, LONGEST_FILE - len(tail.encode())) + tail


def fit_name(name: str, limit: int = LONGEST_FILE) -> str:
    """A file name of at most `limit` bytes without unseen letters; one that had to be changed ends with a mark of the whole.

    >>> fit_name("a.jpg"), fit_name("a\\x1b.jpg"), len(fit_name("é" * 200).encode())
    ('a.jpg', 'a-.jpg~9b9ba8ec', 255)
    """
    clean = "".join("-" if unseen(name, i) or c == "/" else c for i, c in enumerate(name))
    if clean == name and len(os.fsencode(clean)) <= limit:
        return name
    mark = _CUT + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return clean.encode()[: limit - len(mark)].decode(errors="ignore") + mark


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that reads numbers as numbers.

    >>> sorted(["resnet101", "resnet18"], key=natural_key)
    ['resnet18', 'resnet101']
    """
    parts = re.split(r"(\d+)", name)
    return [(1, 0, p) if (number := whole_number(p)) is None else (0, number, "") for p in parts if p]


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
    for character in "" if name.isprintable() else name:  # printable: none of these, and quickly known
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
    composed = name if name.isascii() else unicodedata.normalize("NFKC", name)
    shown = composed if composed.isascii() else "".join(c for c in composed if unicodedata.category(c) != "Cf")
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


def whole_number(text: str) -> int | None:
    """The number that a text of digits is; None for anything else, and for one that Python does not read.

    `str.isdigit` says yes to "²", which `int` refuses, and `int` refuses more than 4,300 digits.

    >>> whole_number("12"), whole_number("²"), whole_number("-1"), whole_number("9" * 5000)
    (12, None, None, None)
    """
    if not text.isdecimal() or len(text) > _DIGITS:
        return None
    return int(text)


def said(words: str, sentence: str) -> dict[str, str]:
    """A table in which each of several words, with spaces between them, has the same sentence.

    >>> said("in_chans channels", "it is in_channels here")
    {'in_chans': 'it is in_channels here', 'channels': 'it is in_channels here'}
    """
    return dict.fromkeys(words.split(), sentence)
