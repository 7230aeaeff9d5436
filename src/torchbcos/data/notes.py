"""What a person should be told of labelled data: what lies there and is not used, and classes that look alike."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import class_name_fault, look_alike_key, quote
from torchbcos.pictures.find import SUFFIXES

__all__ = [
    "check_class",
    "count_of",
    "is_special",
    "kinds_of",
    "look_alikes",
    "passed_over",
    "same_class_key",
    "without_examples",
]

# What systems and tools leave in folders: it holds no data.
_LITTER = frozenset(
    (".ds_store", "thumbs.db", "desktop.ini", ".directory", ".localized", ".gitkeep", ".gitignore", ".gitattributes", ".git")
)
_MISSING = frozenset(("nan", "null", "#n/a", "<na>"))


def check_class(name: str, where: str) -> None:
    """Refuse what is no name of a class.

    Args:
        name: of a class.
        where: the beginning of the sentence.

    Raises:
        InputError: see `torchbcos._core.names.class_name_fault`.
    """
    fault = class_name_fault(name)
    if fault is not None:
        raise InputError(f"{where}: the name of the class, {shorten(repr(name), 80)}, {fault}.")


def same_class_key(name: str) -> str:
    """What two spellings of one class have in common: `look_alike_key`, and for numbers their value.

    >>> same_class_key("01") == same_class_key("1.0"), same_class_key("Cat") == same_class_key("cat ")
    (True, True)
    """
    key = look_alike_key(name)
    if len(key) < 20 and key.replace(".", "", 1).isdecimal() and key.isascii():
        return f"{float(key):g}"
    return key


def look_alikes(classes: Iterable[str], place: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sentences about classes that are probably one, and about one that is probably none.

    >>> look_alikes(["Cat", "dog", "cat"], "x.csv")
    ("The classes 'Cat' and 'cat' of 'x.csv' look alike and are two classes here: give both one name if they are one.",)
    """
    known: dict[str, str] = {}
    pairs, missing = list[tuple[str, str]](), list[str]()
    for name in classes:
        other = known.setdefault(same_class_key(name), name)
        if other != name:
            pairs.append((other, name))
        if look_alike_key(name) in _MISSING:
            missing.append(name)
    found = [
        f"The class {shorten(repr(name), 60)} of {quote(place)} looks like a value that is missing, and is a class here."
        for name in missing[:1]
    ]
    if pairs:
        (a, b), more = pairs[0], f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        found.append(
            f"The classes {shorten(_shown(a, b), 60)} and {shorten(_shown(b, a), 60)} of {quote(place)} look alike and are two "
            f"classes here{more}: give both one name if they are one."
        )
    return tuple(found)


def _shown(name: str, other: str) -> str:
    """A name in quotation marks; in ASCII where it would look like the other one."""
    return repr(name) if name.isascii() and other.isascii() else ascii(name)


def without_examples(classes: Sequence[str], targets: Tensor) -> tuple[str, ...]:
    """A sentence about classes that nothing to train on shows.

    >>> without_examples(["cat", "dog"], torch.tensor([0, 0]))
    ("No picture to train on shows 'dog': a network cannot learn it.",)
    """
    places = (targets > 0).any(0).nonzero() if targets.dim() > 1 else targets  # an unknown one, NaN, is not shown
    shown = set(torch.unique(places).tolist())
    names = [name for i, name in enumerate(classes) if i not in shown]
    if not names:
        return ()
    more = f" ({len(names):,} such classes)" if len(names) > 1 else ""
    return (f"No picture to train on shows {shorten(repr(names[0]), 80)}{more}: a network cannot learn it.",)


def passed_over(paths: Sequence[str], place: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sentences about files of a place that are not read.

    >>> passed_over(["d/a/x.txt", "d/a/._1.png", "d/b/y.txt", "d/.DS_Store"], "d")[0]
    "2 files in 'd' are not read as pictures and not used: 2 .txt; the first is 'a/x.txt'."
    """
    paths = [path for path in paths if os.path.basename(path).lower() not in _LITTER]
    hidden = [path for path in paths if os.path.basename(path).startswith(".")]
    others = [path for path in paths if not os.path.basename(path).startswith(".")]
    strange = [path for path in others if os.path.splitext(path)[1].lower() in SUFFIXES]  # or `walk` would have taken them
    others = [path for path in others if os.path.splitext(path)[1].lower() not in SUFFIXES]
    special = [path for path in strange if is_special(path)]
    gone = [path for path in strange if not os.path.exists(path)]
    others += sorted({*strange} - {*special, *gone})
    found = [
        f"Not used in {quote(place)}, being {what}: {len(some):,}; the first is {quote(os.path.relpath(min(some), place))}."
        for some, what in ((special, "no regular files (pipes or devices?)"), (gone, "links that lead nowhere"))
        if some
    ]
    if others:
        found.append(
            f"{count_of(len(others), 'file')} in {quote(place)} {'are' if len(others) > 1 else 'is'} not read as pictures and "
            f"not used: {kinds_of(others)}; the first is {quote(os.path.relpath(min(others), place))}."
        )
    if hidden:
        found.append(
            f"{count_of(len(hidden), 'hidden file')} in {quote(place)} {'are' if len(hidden) > 1 else 'is'} not used; the first "
            f"is {quote(os.path.relpath(min(hidden), place))}."
        )
    return tuple(found)


def is_special(path: str) -> bool:
    """Whether a pipe, a device or the like is there, which is opened at one's peril."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def kinds_of(paths: Iterable[str]) -> str:
    """How many files end in what, the most frequent first; in an order that no disk decides.

    >>> kinds_of(["a.txt", "b.csv", "c.txt"])
    '2 .txt, 1 .csv'
    """
    found = sorted(Counter(map(_suffix_of, paths)).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {suffix}" for suffix, count in found[:5]) + (", …" if found[5:] else "")


def _suffix_of(path: str) -> str:
    """A file's suffix in lower case as it may stand in a sentence.

    >>> _suffix_of("a.TXT"), _suffix_of("README"), _suffix_of("a.b c d e f g h i j")
    ('.txt', 'without a suffix', 'of other kinds')
    """
    suffix = os.path.splitext(path)[1].lower()
    if not suffix:
        return "without a suffix"
    return suffix if len(suffix) < 12 and suffix.isprintable() else "of other kinds"


def count_of(count: int, what: str) -> str:
    """A number and its noun.

    >>> count_of(1, "row"), count_of(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
