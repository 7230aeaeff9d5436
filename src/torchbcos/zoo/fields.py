"""What each field of a card may hold: a card is a stranger's file, and what it says becomes tensors, sentences and file names."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from torchbcos._core.errors import BcosError, shorten
from torchbcos._core.names import class_name_fault
from torchbcos._core.probability import PROBABILITIES, TEMPERATURES
from torchbcos.conversion import cuts_from, steps_from
from torchbcos.pictures import Preprocess
from torchbcos.zoo.importing import IMPORT, builder_fault
from torchbcos.zoo.remembered import MOST_LOGITS, MOST_NUMBERS

__all__ = ["IMAGENET", "fault_of", "parse_json"]

IMAGENET = "imagenet"  # instead of a list: the 1,000 classes in their usual order

_MOST_CLASSES, _MOST_CHANNELS = 1_000_000, 65_536
_LIBRARIES = ("timm:", "torchvision:")  # which have networks of names
_LONGEST_NAME, _LONGEST_TEXT, _DEEPEST = 200, 10_000, 32
_MOST_DIGITS = 100
_TOO_DEEP = f"is nested deeper than {_DEEPEST}"
_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # categories of Unicode: control characters, halves of characters, line separators

_Rule = Callable[[Any], str | None]  # what is wrong with a value, as the rest of "the field 'x' ..."; None where nothing is


def fault_of(values: Mapping[str, Any]) -> str | None:
    """The first thing that is wrong with the fields of a card, as a sentence without its end; None where nothing is.

    Args:
        values: all fields of a card, by name.

    >>> fault_of({"name": "a", "architecture": "resnet18", "num_classes": 2, "classes": ("cat",)})
    "the field 'classes' has 1 names, but num_classes is 2"
    """
    for name, rule in _RULES.items():
        fault = rule(values[name]) if name in values else None
        if fault is not None:
            return f"the field {name!r} {fault}"
    count, classes = values.get("num_classes"), values.get("classes")
    found = 1000 if classes == IMAGENET else count if classes is None else len(classes)
    if found != count:
        return f"the field 'classes' has {found} names, but num_classes is {count}"
    return None if values.get("probe") is None else _misplaced(values["probe"], values)


def _misplaced(probe: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """What is wrong with a probe on this card."""
    if not str(values.get("architecture")).startswith((IMPORT, *_LIBRARIES)) and values.get("conversion") is None:
        return f"the field 'probe' is of networks that code builds ('{IMPORT}…') only"
    numbers = values.get("in_channels", 6) * math.prod(probe["size"])
    return f"the field 'probe' has an input of {numbers:,} numbers" if numbers > MOST_NUMBERS else None


def parse_json(text: str) -> Any:
    """JSON as a card may hold it: no name twice in one object, and finite numbers only.

    Raises:
        ValueError: it is no JSON, or not of this kind; the message is the rest of a sentence.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: has the field 'a' twice
    """
    try:
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON (line {error.lineno})") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    layer, depth = [found], 0
    while layer := [part for item in layer for part in _parts(item)]:  # not one call inside the other: that is what is in doubt
        if (depth := depth + 1) > _DEEPEST:
            raise ValueError(_TOO_DEEP)
    return found


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"has the field {shorten(name, 60)!r} twice")
        found[name] = value
    return found


def _integer(word: str) -> int:
    if len(word) > _MOST_DIGITS:
        raise ValueError(f"has a number of {len(word):,} digits")
    return int(word)


def _no_number(word: str) -> Any:
    raise ValueError(f"has {word}, which is no number of JSON")


# -- rules ---------------------------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    return shorten(repr(value), 80)


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {_shown(value)}"


def _whole(least: int, most: int) -> _Rule:
    def rule(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if good else f"must be a whole number from {least} to {most}, not {_shown(value)}"

    return rule


def _percent(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
    return None if good else f"must be a number from 0 to 100, not {_shown(value)}"


def _text(longest: int, *, least: int = 0) -> _Rule:
    def rule(value: Any) -> str | None:
        if not isinstance(value, str) or len(value.strip()) < least:
            return f"must be a text, not {_shown(value)}"
        if len(value) > longest:
            return f"has {len(value):,} characters, more than {longest:,}"
        return _unprintable(value)

    return rule


def _unprintable(value: str, *, allowed: str = "") -> str | None:
    """Control characters never reach a terminal: not one that a file brings along."""
    for character in () if value.isprintable() else value:
        if unicodedata.category(character) in _NO_TEXT and character not in allowed:
            return f"contains the character U+{ord(character):04X}, which is no text"
    return None


def _matching(pattern: str, what: str) -> _Rule:
    def rule(value: Any) -> str | None:
        good = isinstance(value, str) and re.fullmatch(pattern, value) is not None
        return None if good else f"must be {what}, not {_shown(value)}"

    return rule


def _optional(rule: _Rule) -> _Rule:
    return lambda value: None if value is None else rule(value)


def _probability(value: Any) -> str | None:
    if isinstance(value, str) and value in PROBABILITIES:
        return None
    return f"must be {' or '.join(map(repr, PROBABILITIES))}, not {_shown(value)}"


def _temperature(value: Any) -> str | None:
    low, high = TEMPERATURES
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return None if good else f"must be a number from {low:g} to {high:g}, not {_shown(value)}"


def _classes(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value == IMAGENET):
        return None
    if not isinstance(value, tuple | list) or not all(isinstance(name, str) for name in value):
        return f"must be a list of class names, or {IMAGENET!r}, not {_shown(value)}"
    seen: dict[str, int] = {}
    for i, name in enumerate(value):
        # most names can be printed as they are, and are not looked at character by character: there may be a million
        fault = None if name.isprintable() and 0 < len(name.strip()) == len(name) < 100 else class_name_fault(name)
        if fault is not None:
            return f"has a class that {fault}: number {i}, {_shown(name)}"
        if name in seen:
            return f"has the class {_shown(name)} twice: numbers {seen[name]} and {i}"
        seen[name] = i
    return None


def _preprocess(value: Any) -> str | None:
    try:
        Preprocess.from_dict(value)
    except BcosError as error:
        return f"is wrong: {shorten(str(error), 250).rstrip('.')}"
    return None


def _data(value: Any) -> str | None:
    """What JSON holds: names, texts, finite numbers, truth values and null, in lists and tables."""
    open_ = [(value, 0)]
    while open_:
        item, depth = open_.pop()
        if depth > _DEEPEST:
            return _TOO_DEEP
        if isinstance(item, Mapping):
            open_ += [(name if isinstance(name, str) else _NoData(name), depth + 1) for name in item]
            open_ += [(part, depth + 1) for part in item.values()]
        elif isinstance(item, tuple | list):
            open_ += [(part, depth + 1) for part in item]
        elif isinstance(item, str):
            fault = _unprintable(item, allowed="\n\t")
            if fault is not None:
                return fault
        elif isinstance(item, float) and not math.isfinite(item):
            return f"holds {item}, which is no number of JSON"
        elif item is not None and not isinstance(item, int | float):
            what = item.key if isinstance(item, _NoData) else item
            return f"holds a {type(what).__name__} ({_shown(what)}), which JSON cannot hold there"
    return None


@dataclasses.dataclass(frozen=True)
class _NoData:
    """A name in a table that is no text."""

    key: Any


def _options(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"must be a table, not {_shown(value)}"
    fields = [name for name in ("name", "num_classes", "in_channels", "plain") if name in value]
    return f"holds {fields[0]!r}, which is no option of a network but a field of its own" if fields else _data(value)


def _probe(value: Any) -> str | None:
    """The sides of an input, and some logits."""
    if not isinstance(value, Mapping) or set(value) != {"size", "logits"}:
        return f"must be a table of 'size' and 'logits', not {_shown(value)}"
    size, logits = value["size"], value["logits"]
    sides = isinstance(size, tuple | list) and 1 <= len(size) <= 3 and all(_side(side) is None for side in size)
    if not sides:
        return f"must have a size of one to three whole numbers, not {_shown(size)}"
    good = isinstance(logits, tuple | list) and 1 <= len(logits) <= MOST_LOGITS and all(map(_is_finite, logits))
    return None if good else f"must have logits, 1 to {MOST_LOGITS} finite numbers, not {_shown(logits)}"


def _conversion(value: Any) -> str | None:
    """The steps of a conversion, and its settings."""
    if not isinstance(value, Mapping) or set(value) != {"steps", "settings"}:
        return f"must be a table of 'steps' and 'settings', not {_shown(value)}"
    if not isinstance(value["settings"], Mapping):
        return f"must have settings that are a table, not {_shown(value['settings'])}"
    if (fault := _data(value)) is not None:
        return fault
    try:
        steps_from(value["steps"])
    except BcosError as error:
        return f"is wrong: {shorten(str(error), 250).rstrip('.')}"
    return None


def _pruned(value: Any) -> str | None:
    """Layers, and what is left of them."""
    if (fault := _data(value)) is not None:
        return fault
    try:
        cuts_from(value)
    except BcosError as error:
        return f"is wrong: {shorten(str(error), 250).rstrip('.')}"
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def _architecture(value: Any) -> str | None:
    fault = _NAME(value)
    if fault is None and value.startswith(IMPORT) and builder_fault(value.removeprefix(IMPORT)) is not None:
        return f"must be '{IMPORT}package.module:function', not {_shown(value)}"
    if fault is None and value.startswith(_LIBRARIES) and re.fullmatch(r"\w+:[\w.-]{1,150}", value, re.ASCII) is None:
        return f"must be the name of a library and of a network in it, 'timm:resnet18', not {_shown(value)}"
    return fault


_side = _whole(1, 2**26)
_NAME, _LINE = _text(_LONGEST_NAME, least=1), _optional(_text(_LONGEST_TEXT))
_HEXADECIMAL = _optional(_matching("[0-9a-f]{1,64}", "up to 64 hexadecimal digits"))
_RULES: dict[str, _Rule] = {
    "schema": _whole(1, 1), "name": _NAME, "architecture": _architecture, "options": _options, "plain": _flag,
    "in_channels": _whole(1, _MOST_CHANNELS), "num_classes": _whole(0, _MOST_CLASSES), "classes": _classes,
    "preprocess": _optional(_preprocess), "probability": _probability,
    "temperature": _optional(_temperature),
    "file": _optional(_matching(r"[^/\\\x00-\x1f]{1,200}", "the name of a file without a folder")), "url": _LINE,
    "sha256": _HEXADECIMAL, "licence": _LINE, "terms": _LINE, "top1": _optional(_percent), "top5": _optional(_percent),
    "measured": _LINE, "parameters": _optional(_whole(0, 10**15)), "recipe": _data, "deployed": _flag, "notes": _data,
    "digest": _HEXADECIMAL, "probe": _optional(_probe), "conversion": _optional(_conversion), "pruned": _optional(_pruned),
    "program": _HEXADECIMAL,
}  # fmt: skip
