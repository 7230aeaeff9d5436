"""Every relative link of a page leads to a file that exists, and every anchor to a heading that exists."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").glob("*.ipynb")])
# a link or picture, also one whose words are a picture; a title may stand behind the target
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)")
REFERENCE = re.compile(r"^\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s|$)", re.M)
ATTRIBUTE = re.compile(r"""<[a-z]+[^>]*\s(?:href|src)=["']([^"']+)["']""")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.S | re.M)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)


def text_of(page: Path) -> str:
    """A page's text; of a notebook the text of its cells."""
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them: small letters, no punctuation, hyphens for spaces."""
    seen: Counter[str] = Counter()
    found = set(re.findall(r"""<[a-z]+[^>]*\s(?:id|name)=["']([^"']+)["']""", text))
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", text), re.M):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words.replace("`", "").replace("*", "")).strip().replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors of a file."""
    return frozenset(anchors(text_of(page)))


def broken(page: Path, text: str) -> list[str]:
    """Links that lead nowhere: no such file, or no such heading in it."""
    prose = FENCE.sub("", text)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    wrong = []
    for link in [*LINK.findall(prose), *REFERENCE.findall(prose), *ATTRIBUTE.findall(prose)]:
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        right = target.exists() and target.is_relative_to(ROOT)
        if right and anchor:
            right = target.suffix in (".md", ".ipynb") and anchor in (anchors_of(target) if path else anchors(text))
        if not right:
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    assert broken(page, text_of(page)) == []


def test_all_pages_are_looked_at() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/index.md", "docs/tutorial.ipynb"} <= names
    links = [link for page in PAGES for link in LINK.findall(text_of(page)) if not ELSEWHERE.match(link)]
    assert len(links) > 300 and sum("#" in link for link in links) > 5


WRONG = {
    "no such file": "[a](gone.md)",
    "no such picture": "![a](pictures/gone.jpg)",
    "no such heading here": "# One\n\n[a](#two)",
    "no such heading there": "[a](start.md#gone)",
    "an anchor in what has no headings": "[a](build.py#main)",
    "a picture that is a link": "[![a](pictures/guitar.jpg)](gone.md)",
    "a link by reference": "[a][b]\n\n[b]: gone.md",
    "an element": '<img alt="" src="pictures/gone.jpg">',
    "outside the repository": "[a](../../gone.md)",
    "with a title": '[a](gone.md "words")',
    "a second heading of that name, where there is one": "# One\n\n[a](#one-1)",
    "a heading in a block of code": "```\n# One\n```\n\n[a](#one)",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_wrong_link_is_seen(text: str) -> None:
    assert len(broken(ROOT / "docs" / "index.md", text)) == 1


def test_right_links_are_left_alone() -> None:
    text = (
        "# One, `two`: *three*\n\n# Same\n\n# Same\n\n[a](#one-two-three) [b](#same-1) [c](start.md#start) [d](../README.md#use) "
        '[e](https://x.y/z#w) [f](mailto:a@b.c) `[g](gone.md)` ![h](pictures/guitar.jpg "t")\n\n```\n[i](gone.md)\n```\n'
    )
    assert broken(ROOT / "docs" / "index.md", text) == []
