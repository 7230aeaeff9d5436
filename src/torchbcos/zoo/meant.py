"""What somebody may have meant who names a network of their own in another way than "module:function".

Files of the working folder are looked into for names, as text: nothing in them is run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from torchbcos._core.errors import shorten
from torchbcos._core.names import quote

__all__ = ["own_network"]

_FILES, _BYTES = 100, 1_000_000  # of Python in the working folder that is looked into
_MADE = re.compile(r"^(?:class|def) +([^\W\d_]\w*)", re.MULTILINE)
_FORM = (
    "a network of your own is FILE:FUNCTION, 'mynets:MyCNN' for a class MyCNN in the file mynets.py of the folder where you work"
)


def own_network(name: str) -> str | None:
    """What to write instead of `name`, as the rest of a sentence; None where it looks like no network of one's own.

    Args:
        name: of no network here, and no "module:function".

    >>> own_network("my_nets.nowhere.py") == _FORM, own_network("resnet51")
    (True, None)
    """
    file, _, function = name.rpartition(":") if ":" in name else (name, "", "")
    bare = os.path.normpath(file).removesuffix(".py") if file.endswith(".py") else file
    if file.endswith(".py"):
        made = [function] if function else _made_in(Path(file))
        return _meant(bare.replace(os.sep, "."), made)
    if ":" in name:
        return _meant(bare.replace(os.sep, ".").strip("."), [function])
    module, dot, function = name.rpartition(".")
    if dot and function in _made_in(Path(module.replace(".", os.sep) + ".py")):
        return _meant(module, [function])
    if dot:
        return _FORM
    return next((_meant(path.stem, [name]) for path in _files() if name in _made_in(path)), None)


def _meant(module: str, made: list[str]) -> str:
    """The form, with the person's own words where they make one."""
    found = [f"{module}:{name}" for name in made if name.isidentifier() and all(map(str.isidentifier, module.split(".")))]
    if not found:
        return _FORM
    return f"a network of your own is FILE:FUNCTION, here {' or '.join(quote(shorten(one, 80)) for one in found[:3])}"


def _files() -> list[Path]:
    """Files of Python in the working folder."""
    try:
        return sorted(Path().glob("*.py"))[:_FILES]
    except OSError:
        return []


def _made_in(path: Path) -> list[str]:
    """The classes and functions that a file of Python makes, in their order."""
    try:
        if not path.is_file() or path.stat().st_size > _BYTES:
            return []
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    return _MADE.findall(text)
