"""One setting of a recipe: a field of a dataclass, with its text, unit and range beside it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import hint

__all__ = ["Setting", "setting", "settings_of"]

_T = TypeVar("_T")
# What happens when an interrupted run goes on with another value: it is refused; it is accepted and written into
# recipe.toml; or it makes no difference to what is learned.
_Resume = Literal["fixed", "noted", "free"]
_PAIR = "two numbers ([0.5, 1])"
_WORDS: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def setting(
    default: _T, text: str, *, unit: str = "", low: float | None = None, high: float | None = None, resume: _Resume = "noted"
) -> _T:
    """A field of a dataclass of settings.

    Args:
        default: its value where nothing else is set; a dictionary is copied for every recipe.
        text: what it does, in one sentence without a full stop.
        unit: what a number counts or measures; "" for none.
        low, high: smallest and largest number that is accepted.
        resume: what an interrupted run does that goes on with another value: "fixed" refuses it, "noted" accepts it and
            writes it down, "free" makes no difference to what is learned.

    Returns:
        The field; a type checker sees the default, as with `dataclasses.field`.
    """
    about = {"text": text, "unit": unit, "low": low, "high": high, "resume": resume}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=about)
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Setting:
    """What there is to know of one setting, read from its field.

    Attributes:
        key: its name. kind: its type. default: its value where nothing else is set.
        text, unit, low, high, resume: see `setting`.
    """

    key: str
    kind: Any
    default: Any
    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    resume: _Resume = "noted"

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that are accepted; empty where it is no choice."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    @property
    def range(self) -> str:
        """The accepted values, in words.

        >>> Setting("flip", float, 0.5, "chance of a mirrored picture", low=0, high=1).range
        '0 to 1'
        """
        if self.choices:
            return ", ".join(f'"{choice}"' for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:,.10g} to {self.high:,.10g}"
        return self.wanted

    @property
    def accepts(self) -> str:
        """The accepted values with their unit, in words.

        >>> Setting("step_size", int, 30, "epochs between two changes", unit="epochs", low=1, high=90).accepts
        '1 to 90 epochs'
        """
        return f"{self.range} {self.unit}".rstrip()

    @property
    def wanted(self) -> str:
        """The accepted type, in words."""
        return _WORDS.get(self.kind, "a table" if typing.get_origin(self.kind) is Mapping else _PAIR)

    def check_range(self, value: Any) -> None:
        """Refuse a number outside the range.

        Raises:
            InputError: it is outside.
        """
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            raise InputError(f"{self.key} must lie between {self.low:g} and {self.high:g}, not {value!r}.")

    def check_choice(self, value: Any) -> None:
        """Refuse a text that is no choice.

        Raises:
            InputError: it is none; the nearest are named.
        """
        if self.choices and value not in self.choices:
            words = ", ".join(repr(choice) for choice in self.choices)
            raise InputError(f"{self.key} must be one of {words}, not {value!r}.{hint(str(value), self.choices)}")

    def read(self, value: Any) -> Any:
        """A value from a file or a command line, as the type of this setting.

        Raises:
            InputError: it has another type, or is no finite number.

        >>> Setting("epochs", int, 90, "passes over the pictures").read(3.0)
        3
        """
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(_is_huge(number) for number in numbers):
            raise InputError(f"{self.key} must be {self.wanted}, not one of more than 19 digits.")
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise InputError(f"{self.key} must be finite, not {value!r}.")
        if self.choices:
            return str(value)
        if self.kind is str and isinstance(value, str):
            return _encodable(self.key, value)
        if self.kind is bool and isinstance(value, bool):
            return value
        if self.kind in (int, float) and _is_number(value) and (self.kind is float or value == int(value)):
            return self.kind(value)
        if typing.get_origin(self.kind) is tuple and len(numbers) == 2 and all(isinstance(n, int | float) for n in numbers):
            return float(numbers[0]), float(numbers[1])
        if typing.get_origin(self.kind) is Mapping and isinstance(value, Mapping):
            return {_encodable(self.key, str(key)): _plain(f"{self.key}.{key}", one) for key, one in value.items()}
        raise InputError(f"{self.key} must be {self.wanted}, not {shorten(repr(value), 200)}.")


_DEEPEST = 16  # tables and lists of an option in each other


def _encodable(key: str, text: str) -> str:
    """A text that a file can hold.

    Raises:
        InputError: it holds bytes that are no text, as a command line can.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{_named(key)} must be text, and holds bytes that are none in UTF-8.") from None
    return text


def _plain(key: str, value: Any, depth: int = 0) -> Any:
    """An option as a file can hold it, and as it comes back from there: texts, finite numbers, lists and tables.

    Raises:
        InputError: it is something else, a date for example.
    """
    if isinstance(value, str):
        return _encodable(key, value)
    if (isinstance(value, bool | int) and not _is_huge(value)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {_encodable(key, str(name)): _plain(key, one, depth + 1) for name, one in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [_plain(key, one, depth + 1) for one in value]
    if isinstance(value, Mapping | list | tuple):
        said = "nested too deeply"
    else:
        said = "a number of more than 19 digits" if _is_huge(value) else shorten(repr(value), 80)
    raise InputError(f"{_named(key)} must be a text, a finite number, true, false, or a list or table of those, not {said}.")


def _named(key: str) -> str:
    """A key as it stands in a message: as it is, where it is short and plain."""
    return key if key.isascii() and key.isprintable() and len(key) <= 80 else shorten(ascii(key), 80)


def _is_huge(value: Any) -> bool:
    """Whether it is an integer that no TOML file may hold: Python refuses to print the largest, or to make a float of them."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    """Whether it is an integer or a float; in Python, True and False are integers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def settings_of(kind: type) -> Mapping[str, Setting]:
    """The settings of a dataclass by key, in the order of its fields.

    >>> from torchbcos.training.recipe import OptimisationSettings
    >>> settings_of(OptimisationSettings)["batch_size"].unit
    'pictures'
    """
    return _settings_of(kind)


@functools.cache
def _settings_of(kind: type) -> Mapping[str, Setting]:
    """`settings_of`, read once for each class."""
    kinds = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        found[field.name] = Setting(field.name, kinds[field.name], default, **field.metadata)
    return MappingProxyType(found)
