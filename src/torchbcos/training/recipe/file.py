"""Recipes in TOML files and on the command line."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError, MissingFileError, shorten
from torchbcos._core.names import quote
from torchbcos._core.tables import read_text
from torchbcos.training.recipe.permission import refuse_code
from torchbcos.training.recipe.setting import Setting
from torchbcos.training.recipe.value import Recipe, checked, from_dict, group_of, list_settings, to_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_recipe", "to_toml", "with_settings"]

_LARGEST = 4 * 2**20  # bytes of a file, which are read in seconds: the names of a hundred thousand classes have room
# a key of thousands of parts, for which the reader takes seconds: its time grows with their square
_LONG_KEY = re.compile(r"""(?:\.[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*){300}""")
_WIDTH = 120  # of comments


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """A recipe with `key=value` settings, as the command line gives them; `options.KEY=value` sets one of the network's.

    Raises:
        InputError: a setting has no "=", or its key or value is wrong.

    >>> with_settings(Recipe(), ["epochs=3", "options.antialias=true"]).options
    {'antialias': True}
    """
    values = to_dict(recipe)
    models = [text.strip() for key, _, text in (setting.partition("=") for setting in settings) if key.strip() == "model"]
    if any(recipe.leaves_options(model) for model in models):
        values["options"] = {}
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise InputError(f"--set takes key=value, not {setting!r}.")
        if given.setdefault(key, text) != text:
            raise InputError(f"{key} is set twice, to {given[key]} and to {text}: leave one of them out.")
        if key.startswith("options."):
            values["options"] = {**values["options"], key.removeprefix("options."): _parsed(text)}
        else:
            known = list_settings().get(key)
            values[key] = text.strip() if known is not None and known.kind is str else checked(key, _parsed(text))
    return from_dict(values)


def _parsed(text: str) -> Any:
    """A value as TOML reads it (true, 3, 0.1, [1, 2], "x"); a bare word is a text."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):  # no TOML; a number of thousands of digits; thousands of brackets
        return text.strip()


def to_toml(recipe: Recipe, extra: Mapping[str, Any] | None = None, *, comments: bool = False) -> str:
    """A recipe as a TOML file.

    Args:
        recipe: every setting of it is written.
        extra: facts about the run, which go under [run].
        comments: above every setting a comment says what it does.

    >>> "# passes over the training data (1 to 1,000,000 epochs)\\nepochs = 90\\n" in to_toml(Recipe(), comments=True)
    True
    """
    values, known = to_dict(recipe), list_settings()
    options = values.pop("options")
    lines: list[str] = []
    group = ""
    for key, value in values.items():
        if comments:
            lines += _heading(group, group := group_of(key))
            lines += _commented(known[key])
        lines.append(f"{key} = {_literal(value)}")
    if options:
        lines += ["", *(_commented(known["options"]) if comments else ()), "[options]", *_entries(options)]
    if extra:
        lines += ["", "[run]", *_entries(extra)]
    return "\n".join(lines) + "\n"


def _heading(before: str, group: str) -> list[str]:
    """The comment that stands above the first setting of a group."""
    if group == before:
        return []
    return [*([""] if before else []), f"# === {group} ===", ""]


def _commented(one: Setting) -> list[str]:
    """The lines of a comment that says what a setting does, and which values it takes."""
    text = one.text if one.kind is str else f"{one.text} ({one.accepts})"
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _entries(table: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a table."""
    for key, value in table.items():
        yield f"{_literal(key)} = {_literal(value)}"


def _literal(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(_entries(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    # texts, numbers and booleans of JSON are TOML's, but for one character that TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_recipe(file: Path, *, allow_code: bool = False) -> tuple[Recipe, dict[str, Any]]:
    """A recipe from a TOML file, and its [run] table; keys that the file lacks have their defaults.

    Args:
        file: data, whoever wrote it.
        allow_code: the recipe may name a function of a module as its network, or a program as its teacher: to train by it
            runs their code.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no TOML, or no recipe; or it would run code, and `allow_code` does not say that it may.
    """
    name = quote(file)
    try:
        text = read_text(file, _LARGEST).replace("\r\n", "\n").replace("\r", "\n")  # of old Macs, which TOML does not know
        if _LONG_KEY.search(text):
            raise InputError(f"{name} is no recipe file: a key has hundreds of parts.")
        values = tomllib.loads(text)
    except InputError:
        raise
    except MissingFileError:
        raise MissingFileError(f"There is no recipe file {name}.") from None
    except RecursionError:
        raise InputError(f"{name} is no recipe file: it nests brackets too deeply.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name} is no recipe file: {_first_line(error)}.") from error
    except ValueError as error:
        raise InputError(f"{name} is no recipe file: a number in it has thousands of digits.") from error
    run = values.pop("run", {})
    try:
        recipe, facts = from_dict(values), _checked_facts(run)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if not allow_code:
        refuse_code(recipe, file)
    return recipe, facts


def _first_line(error: Exception) -> str:
    """What the reader of TOML says, in good English, short enough to stand in a sentence."""
    return shorten((str(error).splitlines() or [type(error).__name__])[0], 160)


_FACTS: Mapping[str, Any] = {"data": str, "kind": str, "fingerprint": str, "pictures": int, "classes": list, "changes": list}


def _checked_facts(run: Any) -> dict[str, Any]:
    """The [run] table, whose known entries have the types that a run writes.

    Raises:
        InputError: one has another type.
    """
    if not isinstance(run, dict):
        raise InputError(f"run must be a table, which says what a run was made of, not {shorten(repr(run), 80)}.")
    for key, kind in _FACTS.items():
        value = run.get(key)
        if value is None:
            continue
        if not isinstance(value, kind) or (kind is list and not all(isinstance(one, str) for one in value)):
            wanted = {str: "a text", int: "a whole number", list: "a list of texts"}[kind]
            raise InputError(f"{key} in [run] must be {wanted}, not {shorten(repr(value), 80)}.")
    return run
