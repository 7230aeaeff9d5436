"""Whether a site can be read without a network."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["fetched"]

AWAY = r"""["']?\s*(?:https?:)?//"""
ELEMENT = re.compile(rf"<(?:script|img|iframe|source|video)\b[^>]*\ssrc={AWAY}|<link\b[^>]*\shref={AWAY}")
STYLE = re.compile(rf"(?:url\(|@import)\s*{AWAY}")


def fetched(site: Path) -> list[str]:
    """Pages and styles of a site that fetch a script, a style, letters or a picture from elsewhere."""
    found = []
    for path in sorted(path for path in site.rglob("*") if path.suffix in (".html", ".css", ".svg")):
        text = path.read_text("utf-8")
        if ELEMENT.search(text) or STYLE.search(text):
            found.append(path.relative_to(site).as_posix())
    return found
