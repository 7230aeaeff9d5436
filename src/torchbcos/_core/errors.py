"""Errors a user can cause, each with one clear sentence.

    BcosError
    ├── InputError(ValueError)        a tensor, picture or argument has the wrong form
    ├── ArgumentTypeError(TypeError)  an argument has the wrong type, or is unknown
    ├── MissingFileError(FileNotFoundError)
    ├── WeightsError(RuntimeError)    a weights file is broken, unsafe or does not fit
    ├── StateError(RuntimeError)      the operation cannot be done exactly here
    └── MissingPackageError(ImportError, RuntimeError)

Messages say what was expected, what came, where, and the next step; none is longer than
500 characters, and what they quote of a file moves no cursor: see `letters.printable`.
"""

from __future__ import annotations

import re

from torchbcos._core.letters import printable

__all__ = [
    "ArgumentTypeError", "BcosError", "ExplanationWarning", "InputError", "MissingFileError", "MissingPackageError",
    "StateError", "WeightsError",
    "in_short", "shorten",
]  # fmt: skip

_LONGEST = 500


class BcosError(Exception):
    """Base of every error that torchbcos raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(printable(shorten(message, 10 * _LONGEST)), _LONGEST))


class InputError(BcosError, ValueError):
    """A tensor, a picture or an argument has the wrong form."""


class ArgumentTypeError(BcosError, TypeError):
    """An argument has the wrong type, or no such argument exists."""


class MissingFileError(BcosError, FileNotFoundError):
    """A file or folder is not where it was said to be."""

    def __str__(self) -> str:  # FileNotFoundError would print "[Errno …]"
        return str(self.args[0]) if self.args else ""


class WeightsError(BcosError, RuntimeError):
    """A weights file is broken, unsafe, or belongs to another network."""


class StateError(BcosError, RuntimeError):
    """What was asked cannot be done exactly in this state; the message says what can."""


class MissingPackageError(BcosError, ImportError, RuntimeError):
    """An optional package is not installed; the message has the command that installs it."""


class ExplanationWarning(UserWarning):
    """A network cannot be explained, or an explanation does not add up to what it explains."""


def in_short(text: str, limit: int) -> str:
    """What another library says, in at most `limit` characters: whole clauses of it, if the first of them is short enough.

    >>> in_short("Too few bytes (3 vs 8) - this may be caused by an invalid element. It goes on and on.", 40)
    'Too few bytes (3 vs 8)'
    >>> in_short("One. Two", 40), in_short("abcdefghij", 7)
    ('One. Two', 'abc…hij')
    """
    if len(text) <= limit:
        return text
    ends = [found.start() for found in re.finditer(r"[.;:,]\s|\s[-(]\s?", text[: limit + 1]) if found.start()]
    clauses = [end for end in ends if text.count("(", 0, end) == text.count(")", 0, end)]
    return text[: clauses[-1]] if clauses else shorten(text, limit)


def shorten(text: str, limit: int) -> str:
    """`text`, cut in the middle so that it has at most `limit` characters.

    >>> shorten("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= limit:
        return text
    head = limit // 2  # the mark … takes one character
    tail = limit - 1 - head
    return text[:head] + "…" + text[len(text) - tail :]
