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

from torchbcos._core.letters import printable

__all__ = [
    "ArgumentTypeError", "BcosError", "ExplanationWarning", "InputError", "MissingFileError", "MissingPackageError",
    "StateError", "WeightsError",
    "shorten",
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
