"""Parts of HTML pages: one file that opens without a server or a network, today and in ten years.

`document` takes sections; what stands in them is made by `paragraph`, `note`, `facts`, `figure`, and by `page_table.table` and
`page_pictures.strip`. Every word is escaped; the browser is told to load nothing and to run nothing but the script of this room.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from torchbcos.rendering.markup import Html, element, joined, text
from torchbcos.rendering.shapes import INKS, Drawing
from torchbcos.rendering.svg import svg
from torchbcos.rendering.text import format_number

__all__ = [
    "Html", "Section", "bullets", "code", "document", "element", "facts", "figure", "heading", "joined", "note", "paragraph",
    "shown", "text", "warning",
]  # fmt: skip

_WASHES = ("#f4f5f7", "#1e2229")  # behind notes and headings of tables, on white and on black
_PANEL = (
    '<dialog aria-labelledby="panel"><div class="bar"><button type="button">Previous</button><button type="button">Next</button>'
    '<button type="button">Close</button></div><h3 id="panel"></h3><div class="pair"></div><div class="about"></div></dialog>'
)


@dataclass(frozen=True)
class Section:
    """A chapter of a page: its title stands in the table of contents."""

    title: str
    parts: Sequence[str]


def document(title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "", language: str = "en") -> Html:
    """A whole page as one file.

    Args:
        title: of the page.
        sections: in order; where there are three or more, a table of contents stands above them.
        lead: one line below the title.
        footer: one line at the end: what made the page.
        language: of the words, as HTML names it.

    >>> page = document("Report", [Section("Result", [paragraph("1 < 2")])])
    >>> page[:15], "1 &lt; 2" in page
    ('<!doctype html>', True)
    """
    style, script = _style(), _source("page.js")
    places = [f"s{i}" for i, _ in enumerate(sections, 1)]
    links = [element("li", element("a", s.title, attributes={"href": f"#{p}"})) for s, p in zip(sections, places, strict=True)]
    contents = (
        element("nav", element("ol", *links), attributes={"aria-label": "Contents", "id": "contents"}) if len(links) > 2 else ""
    )
    body = [_section(section, place, bool(contents)) for section, place in zip(sections, places, strict=True)]
    below = element("p", lead, attributes={"class": "lead"}) if lead else ""
    panel = Html(_PANEL) if any('class="strip"' in part for part in body) else Html("")
    head = joined([
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html('<meta name="referrer" content="no-referrer">'),
        element("title", title),
        Html(f"<style>{style}</style>"),
    ])  # fmt: skip
    main = element("main", element("header", element("h1", title), below, contents), *body, element("footer", footer))
    whole = element("body", main, panel, Html(f"<script>{script}</script>"))
    return Html(f'<!doctype html>\n<html lang="{text(language)}"><head>{head}</head>\n{whole}</html>\n')


def _section(section: Section, place: str, linked: bool) -> Html:
    back = element("a", "Contents", attributes={"href": "#contents", "class": "back"}) if linked else ""
    title = element("h2", section.title, back, attributes={"id": place})
    return Html("\n" + element("section", title, *section.parts, attributes={"aria-labelledby": place}))


def _policy(style: str, script: str) -> str:
    """Nothing is loaded; pictures are in the page; this style sheet and this script, and no other."""
    allowed = [f"{kind}-src 'sha256-{_digest(code)}'" for kind, code in (("style", style), ("script", script))]
    return "; ".join(["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'", "form-action 'none'"])


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


@lru_cache(maxsize=4)
def _source(name: str) -> str:
    return (resources.files("torchbcos.rendering") / name).read_text("utf-8").replace("\r\n", "\n")


@lru_cache(maxsize=1)
def _style() -> str:
    """The style sheet: the colours of both lights, classes for drawings, and the rest from its file."""
    light, dark = (";".join(f"--{name}:{codes[i]}" for name, codes in {**INKS, "wash": _WASHES}.items()) for i in (0, 1))
    roots = f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    classes = "".join(f".f-{ink}{{fill:var(--{ink})}}.s-{ink}{{stroke:var(--{ink})}}" for ink in INKS)
    return f"{roots}{classes}\n{_source('page.css')}"


def paragraph(*parts: str) -> Html:
    """A paragraph of text and of what `code` and `element` made.

    >>> paragraph("See ", code("a<b"), ".")
    '<p>See <code>a&lt;b</code>.</p>'
    """
    return element("p", *parts)


def code(words: str) -> Html:
    """Words as a program has them.

    >>> code("grid-pointing")
    '<code>grid-pointing</code>'
    """
    return element("code", words)


def heading(words: str) -> Html:
    """A heading inside a section.

    >>> heading("Pictures")
    '<h3>Pictures</h3>'
    """
    return element("h3", words)


def bullets(items: Iterable[str], *, numbered: bool = False) -> Html:
    """A list.

    >>> bullets(["one", "two"])
    '<ul><li>one</li><li>two</li></ul>'
    """
    return element("ol" if numbered else "ul", *(element("li", item) for item in items))


def note(*parts: str) -> Html:
    """A remark that stands out.

    >>> note("n is small")
    '<p class="note">n is small</p>'
    """
    return element("p", *parts, attributes={"class": "note"})


def warning(*parts: str) -> Html:
    """A remark that nobody should miss; it says so in words, not by its colour alone.

    >>> warning("n is 3")
    '<p class="warn"><b>Warning.</b> n is 3</p>'
    """
    return element("p", Html("<b>Warning.</b> "), *parts, attributes={"class": "warn"})


def shown(value: object) -> str:
    """A plain value as words: numbers in a few digits, "–" for what is missing, yes and no, lists with commas.

    >>> shown(0.123456), shown(None), shown(True), shown(["a", 2]), shown({"n": 3, "first": "most"})
    ('0.123', '–', 'yes', 'a, 2', 'n 3, first most')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items()) or "–"
    return ", ".join(shown(one) for one in value) or "–" if isinstance(value, (list, tuple)) else str(value)


def facts(values: Mapping[str, object]) -> Html:
    """Settings and the like: a name and a value a row.

    >>> facts({"seed": 0})
    '<table class="facts"><tbody><tr><th scope="row">seed</th><td>0</td></tr></tbody></table>'
    """
    rows = [
        element(
            "tr",
            element("th", name, attributes={"scope": "row"}),
            element("td", value if isinstance(value, Html) else shown(value)),
        )
        for name, value in values.items()
    ]
    return element("table", element("tbody", *rows), attributes={"class": "facts"})


def figure(drawing: Drawing, *caption: str) -> Html:
    """A drawing of `figures` with words below it.

    >>> figure(Drawing(10, 10, (), "nothing"), "Empty.")[-45:]
    '/svg><figcaption>Empty.</figcaption></figure>'
    """
    return element("figure", svg(drawing), element("figcaption", *caption) if caption else "")
