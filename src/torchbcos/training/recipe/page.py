"""The settings as a person looks them up: found by a word, as records, and as the page docs/how-to/settings.md."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos.training.recipe.groups import GROUPS
from torchbcos.training.recipe.habits import tail
from torchbcos.training.recipe.setting import Setting, settings_of
from torchbcos.training.recipe.value import group_of, list_settings

__all__ = ["default_of", "find_settings", "settings_page", "star", "to_record"]

_INTRODUCTION = """# Settings of a recipe

What `torchbcos train --set KEY=VALUE` changes; `torchbcos train --settings WORD` finds a setting by a part of its name, and
`torchbcos train --show RECIPE` prints the values of a recipe.

`*`: a run that was begun goes on with the same value only. Averaged weights, too, are there from the start or not at all: where
`ema_decay` is 0, it stays 0.
"""


def find_settings(*words: str) -> list[Setting]:
    """The settings that some words name, in the order of a recipe's file; all without a word.

    Args:
        words: a part of a key ("warmup"), a pattern ("*_size"), or a group ("guidance").

    Raises:
        InputError: a word names none; the nearest are named.

    >>> [one.key for one in find_settings("warmup", "lr_*")]
    ['lr_end', 'warmup_epochs', 'warmup_steps', 'warmup_start']
    """
    wanted: set[str] = set()
    for word in words or ("*",):
        found = _matching(word)
        if not found:
            known = [*list_settings(), *(title.lower() for title in GROUPS)]
            raise InputError(f"A recipe has no setting {word!r}.{tail(word, known)} 'torchbcos train --settings' prints all.")
        wanted |= found
    return [one for key, one in list_settings().items() if key in wanted]


def _matching(word: str) -> set[str]:
    """The keys that one word names."""
    for title, kind in GROUPS.items():
        if word.lower() == title.lower():
            return set(settings_of(kind))
    pattern = word if set(word) & set("*?[") else f"*{word}*"
    return set(fnmatch.filter(list_settings(), pattern))


def to_record(one: Setting) -> dict[str, Any]:
    """A setting as JSON holds it."""
    kind = "text" if one.choices or one.kind is str else one.kind.__name__ if isinstance(one.kind, type) else one.wanted
    return {
        "key": one.key, "group": group_of(one.key), "type": kind, "default": one.default, "choices": list(one.choices),
        "low": one.low, "high": one.high, "unit": one.unit, "text": one.text, "resume": one.resume,
    }  # fmt: skip


def star(one: Setting) -> str:
    """What stands behind a key that a run cannot change once it was begun."""
    return " *" if one.resume == "fixed" else ""


def default_of(one: Setting) -> str:
    """The default as a recipe's file has it."""
    return json.dumps(one.default)


def settings_page() -> str:
    """All settings as a page in Markdown: docs/how-to/settings.md.

    >>> settings_page().splitlines()[0]
    '# Settings of a recipe'
    """
    return "\n".join([_INTRODUCTION, *(line for title in GROUPS for line in _section(title))])


def _section(title: str) -> Iterator[str]:
    """One group of the page."""
    about = (GROUPS[title].__doc__ or "").splitlines()[0]
    yield from (f"## {title}", "", about, "", "| key | default | values | what it does |", "|---|---|---|---|")
    for one in settings_of(GROUPS[title]).values():
        yield f"| `{one.key}`{star(one)} | `{default_of(one)}` | {one.accepts} | {one.text} |"
    yield ""
