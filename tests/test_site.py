"""The site: every page has a place, every public name is described, nothing is fetched. `make docs` builds it and runs this."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

import torchbcos

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = ROOT / "site"


def loaded(path: Path) -> ModuleType:
    """A program of docs, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = loaded(DOCS / "build.py")
offline = loaded(DOCS / "machinery" / "offline.py")
notebook = loaded(DOCS / "machinery" / "notebook.py")


def test_the_reference_lists_what_is_public() -> None:
    stored = {path.name: path.read_text("utf-8") for path in (DOCS / "api").glob("*.md")}
    assert stored == build.reference(), "public names have changed: run `make docs`"
    assert set(torchbcos._ROOMS) | set(torchbcos._MORE) <= {room.removeprefix("torchbcos.") for room in build.ROOMS}


def test_every_public_name_stands_on_the_page_of_its_room() -> None:
    for name, text in build.reference().items():
        room = name.removesuffix(".md")
        listed = set(re.findall(rf"^::: {re.escape(room)}\.(\w+)$", text, re.M)) | set(re.findall(r"`(\w+)`[\],.]", text))
        assert set(build.shown(room)) <= listed, room


def navigated(configuration: str) -> set[str]:
    """The pages that the navigation names."""
    return set(re.findall(r"[\w./-]+\.md", configuration[configuration.index("\nnav:") :]))


def test_every_page_has_a_place_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    wanted = {page for page in pages if not re.match(r"decisions/\d", page)} | {"tutorial.md"}
    assert navigated((ROOT / "mkdocs.yml").read_text("utf-8")) == wanted
    assert navigated("x\nnav:\n  - A: a.md\n  - b/c.d.md\n") == {"a.md", "b/c.d.md"}


def test_a_notebook_becomes_a_page_with_its_outputs() -> None:
    text, pictures = notebook.as_markdown(DOCS / "tutorial.ipynb")
    cells = json.loads((DOCS / "tutorial.ipynb").read_text("utf-8"))["cells"]
    assert text.startswith("# Tutorial\n") and text.count("```python\n") == sum(cell["cell_type"] == "code" for cell in cells)
    assert pictures and all(f"]({name})" in text and content[:2] == b"\xff\xd8" for name, content in pictures.items())
    assert re.search(r"\.output \}\nschool bus: \d", text)


def test_the_gallery_is_light_and_complete() -> None:
    drawn = sorted((DOCS / "pictures" / "see").iterdir())
    assert sum(path.stat().st_size for path in drawn) < 700_000
    page = (DOCS / "see.md").read_text("utf-8")
    assert all(f"(pictures/see/{path.name})" in page for path in drawn)
    assert {path.stem for path in drawn} == set(loaded(DOCS / "gallery.py").PHOTOS)


FETCHING = {
    "script.html": '<script src="https://x.y/z.js"></script>',
    "style.html": '<link rel="stylesheet" href=//x.y/z.css>',
    "picture.html": '<img alt="" src="http://x.y/z.png">',
    "letters.css": "@font-face { src: url('https://x.y/z.woff') }",
    "import.css": '@import "https://x.y/z.css";',
}


def test_what_is_fetched_from_elsewhere_is_seen(tmp_path: Path) -> None:
    for name, text in FETCHING.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "fine.html").write_text('<a href="https://x.y">z</a> <img src="a.png"> <script src="b.js"></script>')
    assert offline.fetched(tmp_path) == sorted(FETCHING)


@pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="no site here: `make docs` builds it")
def test_the_built_site_fetches_nothing_and_shows_sources() -> None:
    assert offline.fetched(SITE) == []
    page = (SITE / "api" / "torchbcos.nn" / "index.html").read_text("utf-8")
    assert 'id="torchbcos.nn.BcosConv2d"' in page and "BcosConv2d</span>" in page
    assert "CONTRIBUTING" in (SITE / "index.html").read_text("utf-8")  # a file beside docs, as a page
    assert (SITE / "source" / "CONTRIBUTING" / "index.html").is_file()
    assert (SITE / "source" / "docs" / "examples" / "mynets.py" / "index.html").is_file()


def test_examples_become_blocks_and_the_door_is_read() -> None:
    pytest.importorskip("griffe", reason="of the extra docs")
    sources = loaded(DOCS / "machinery" / "sources.py")
    assert sources.fenced("Two.\n\n>>> 1 + 1\n2\n\nMore.") == "Two.\n\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    assert sources.fenced(">>> 1\n1") == "\n```pycon\n>>> 1\n1\n```"
    assert sources.door((ROOT / "src" / "torchbcos" / "__init__.py").read_text("utf-8")) == torchbcos._DOOR
    with pytest.raises(ValueError, match="no _DOOR"):
        sources.door("x = 1")
