"""Pages lead somewhere: the index of docs has all of them, and CONTRIBUTING names rooms and files that exist."""

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
LINK = re.compile(r"\]\(([^)#\s]+)")
# a path below the root or the package, or a room or file that is named alone
NAMED = re.compile(r"`((?:[\w.]+/)+[\w.]*|\w+\.(?:py|md|toml))`")


def linked(page: Path) -> set[Path]:
    """The pages of docs that a page links to."""
    found = {(page.parent / link).resolve() for link in LINK.findall(page.read_text("utf-8")) if "://" not in link}
    return {path for path in found if path.suffix == ".md" and path.is_relative_to(ROOT / "docs")}


def unlinked(index: Path, pages: set[Path]) -> set[str]:
    """Pages that nobody finds who begins at the index and at the pages of lists that it links to."""
    lists = {index, *(page for page in linked(index) if page.name == "README.md")}
    return {str(page.relative_to(ROOT)) for page in pages - set().union(*map(linked, lists)) - lists}


def absent(text: str, places: list[Path]) -> set[str]:
    """Files and folders that a text names in backquotes and that are in none of the places; ROOM stands for any."""
    return {name for name in NAMED.findall(text) if "ROOM/" not in name and not any((place / name).exists() for place in places)}


def test_every_page_of_docs_is_in_the_index() -> None:
    pages = {path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts}
    assert len(pages) > 20 and unlinked(ROOT / "docs" / "index.md", pages) == set()


def test_a_page_that_is_not_linked_is_seen(tmp_path: Path) -> None:
    page = ROOT / "docs" / "no-such-page.md"
    assert unlinked(ROOT / "docs" / "index.md", {page}) == {"docs/no-such-page.md"}


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
