"""What every page of ours keeps: read by a parser, not by patterns."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = {"br", "img", "input", "meta"}
# attributes that make a browser fetch, run or send something
LOADS = {"src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data", "background", "manifest", "ping"}
TAGS = {"link", "iframe", "object", "embed", "base", "form", "audio", "video", "foreignobject", "use"}


class Reader(HTMLParser):
    """Collects what is open, what is loaded, and the words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.codes: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self.policy = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if len(given) != len(attrs):
            self.faults.append(f"an attribute of <{tag}> twice")
        if tag in TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.faults.append(f"{name} of <{tag}>")
            if name in LOADS and not (value or "").startswith(("#", "data:image/")):
                self.faults.append(f"{name}={value}")
        if given.get("http-equiv"):
            self.policy = given.get("content") or ""
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        self.codes.get(inside, self.words).append(data)


def read_page(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def page_faults(page: str) -> list[str]:
    """What is wrong with a page, in words; nothing if it is one file that loads and runs nothing else."""
    reader = read_page(page)
    found = [*reader.faults, *(f"<{tag}> is not closed" for tag in reader.open)]
    found += [f"the id {one} twice" for one in set(reader.ids) if reader.ids.count(one) > 1]
    links = [given["href"] for tag, given in reader.elements if tag == "a"]
    found += [f"{link} leads nowhere" for link in links if (link or "")[1:] not in reader.ids]
    for kind, parts in reader.codes.items():
        digest = base64.b64encode(hashlib.sha256("".join(parts).encode()).digest()).decode()
        if f"{kind}-src 'sha256-{digest}'" not in reader.policy:
            found.append(f"the policy does not name this {kind}")
    if "default-src 'none'" not in reader.policy or "unsafe" in reader.policy:
        found.append("the policy lets something else in")
    styles = "".join(reader.codes["style"])
    return found + [f"the style sheet has {m}" for m in re.findall(r"url\(|@import|https?:", styles)]
