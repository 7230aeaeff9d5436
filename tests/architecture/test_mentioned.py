"""Whatever our own messages, docstrings and pages call `torchbcos.X.Y` is there under that name."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import torchbcos

ROOT = Path(__file__).parents[2]
# not in addresses and file names; a name with an underscore first is private: its own room may speak of it
NAME = re.compile(r"(?<![\w./-])torchbcos((?:\.[A-Za-z]\w*)+)")
FILES = ("py", "toml", "md", "pth", "json", "png", "yml", "yaml")


def mentioned(text: str) -> Iterator[str]:
    """The dotted names in a text."""
    for found in NAME.finditer(text):
        parts = found[1].strip(".").split(".")
        if parts[-1] not in FILES:
            yield ".".join(("torchbcos", *parts))


def resolve(name: str) -> object:
    """What a user gets who imports torchbcos alone and types the name, or imports a module below a room of the door.

    Raises:
        AttributeError: nothing. What other tests have imported does not count.
    """
    _, first, *rest = name.split(".")
    if first not in {*torchbcos.__all__, *torchbcos._MORE}:
        raise AttributeError(name)
    found = getattr(torchbcos, first)
    for i, part in enumerate(rest, 3):
        module = ".".join(name.split(".")[:i])
        if not is_there(found, part) and isinstance(found, ModuleType) and importlib.util.find_spec(module):
            importlib.import_module(module)
        found = getattr(found, part)
    return found


def is_there(owner: object, name: str) -> bool:
    """Whether `owner` has the attribute."""
    return getattr(owner, name, owner) is not owner


def texts() -> list[Path]:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [*sources, ROOT / "README.md", ROOT / "hubconf.py"]


def missing(text: str) -> list[str]:
    """Names in a text that do not resolve; a module may also be named to be imported, or alone in quotation marks."""
    faults = []
    for name in sorted(set(mentioned(text))):
        try:
            resolve(name)
        except AttributeError:
            imported = re.search(rf"(from|import) {re.escape(name)}\b|\"{re.escape(name)}\"", text)
            if not (imported and importlib.util.find_spec(name)):
                faults.append(name)
    return faults


def test_names_in_messages_and_pages_resolve() -> None:
    faults = {str(path.relative_to(ROOT)): missing(path.read_text("utf-8")) for path in texts()}
    assert {path: names for path, names in faults.items() if names} == {}
    assert sum(len(list(mentioned(path.read_text("utf-8")))) for path in texts()) > 300


@pytest.mark.parametrize(
    "name", ["torchbcos.pictures.find_images", "torchbcos.data.open_labelled", "torchbcos.pictures.as_image"]
)
def test_the_door_leads_to_them(name: str) -> None:
    assert callable(resolve(name))


def test_a_name_that_is_not_there_is_seen() -> None:
    assert missing("see `torchbcos.data.open_labeled` and torchbcos.nn.BcosConv2d.") == ["torchbcos.data.open_labeled"]
    assert missing("from torchbcos.nowhere import x") == ["torchbcos.nowhere"]
    assert missing("a torchbcos.toml, https://a.org/torchbcos.x and torchbcos.BcosError") == []
