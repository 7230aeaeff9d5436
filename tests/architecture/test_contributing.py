"""CONTRIBUTING names rooms and files that exist, on the floors where the law has them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "torchbcos"
# a path below the root or the package, or a room or file that is named alone
NAMED = re.compile(r"`((?:[\w.]+/)+[\w.]*|\w+\.(?:py|md|toml))`")


def absent(text: str, places: list[Path]) -> set[str]:
    """Files and folders that a text names in backquotes and that are in none of the places; ROOM stands for any."""
    return {name for name in NAMED.findall(text) if "ROOM/" not in name and not any((place / name).exists() for place in places)}


def test_contributing_names_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(NAMED.findall(text)) > 20 and absent(text, [ROOT, SRC, SRC.parent, SRC / "functional"]) == set()


def test_a_name_of_nothing_is_seen() -> None:
    assert absent("one file in `kitchen/`, and `nn/oven.py`; `nn/norm.py`", [SRC]) == {"kitchen/", "nn/oven.py"}


def floors(layers: list[str]) -> list[set[str]]:
    """The rooms of each floor of the import law that exist."""
    found = [{room.strip(" ()") for room in layer.split("|")} for layer in layers]
    return [there for floor in found if (there := {room for room in floor if (SRC / room).is_dir()})]


def test_contributing_draws_the_floors_of_the_law() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    [drawn] = re.findall(r"```text\n(.*?)```", text, re.S)
    law = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]["layers"]
    assert floors([line.replace("|", " | ") for line in drawn.split("\n") if line.strip()]) == floors(law)
    assert floors(["nn | kitchen", "(viewers)"]) == [{"nn"}]
