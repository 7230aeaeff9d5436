"""Letters that a text may show: none moves a cursor, turns the text around or hides in it."""

from __future__ import annotations

import unicodedata

__all__ = ["one_line", "printable", "unseen"]

_LONGEST_LINE = 2000  # of a text that is drawn: no picture is wider
# Cc: escape sequences, \r, backspace; Cf: bidirectional overrides, zero width; Cs: bytes that are no text; Zl, Zp: line ends
_UNSEEN_KINDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_UNSEEN_LETTERS = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters and marks that are drawn as nothing
_JOINERS = "\u200c\u200d"  # that Persian, the scripts of India and emoji need between two letters


def unseen(text: str, i: int) -> bool:
    """Whether the letter at `i` commands a terminal or hides: a control, a bidirectional or zero-width one, half a surrogate.

    Joiners between two letters that are not ASCII are none: there they belong to the spelling.

    >>> [unseen("a\\x1b\\u202e\\u200dé", i) for i in range(5)]
    [False, True, True, True, False]
    """
    letter = text[i]
    if letter.isascii():
        return not letter.isprintable()
    if letter in _JOINERS and 0 < i < len(text) - 1:
        return not all(unicodedata.category(c)[0] in "LMS" and not c.isascii() for c in (text[i - 1], text[i + 1]))
    return letter in _UNSEEN_LETTERS or unicodedata.category(letter) in _UNSEEN_KINDS


def printable(text: str) -> str:
    """The text as a terminal may show it: unseen letters stand as their escapes, and nothing else changes.

    >>> printable("a\\r\\x1b[2J b\\u202e"), printable("Größe 日本")
    ('a\\\\r\\\\x1b[2J b\\\\u202e', 'Größe 日本')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if unseen(text, i) else c for i, c in enumerate(text))


def one_line(text: str) -> str:
    """The text on one line as it can be drawn: spaces in place of unseen letters and of runs of spaces.

    >>> one_line("a\\nb\\x00  c")
    'a b c'
    """
    text = text[:_LONGEST_LINE]
    return " ".join("".join(" " if unseen(text, i) else c for i, c in enumerate(text)).split())
