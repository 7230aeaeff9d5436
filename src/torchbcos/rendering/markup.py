"""Text as HTML can hold it: whatever it contains, it stays text."""

from __future__ import annotations

import html
from collections.abc import Iterable

from torchbcos._core.letters import printable

__all__ = ["Html", "element", "joined", "text"]

_VOID = ("br", "img", "input", "meta")  # elements that hold nothing, and are not closed


class Html(str):
    """HTML that was made by this room; every other `str` is text, and is escaped when it enters a page."""

    __slots__ = ()


def text(value: str) -> Html:
    """Text as HTML; unseen letters stand as their escapes, so that no name turns a line around or hides in it.

    >>> text("<b>a&b</b>"), text("a\\u202egnp.exe"), text(Html("<b>bold</b>"))
    ('&lt;b&gt;a&amp;b&lt;/b&gt;', 'a\\\\u202egnp.exe', '<b>bold</b>')
    """
    return value if isinstance(value, Html) else Html(html.escape(printable(value), quote=True))


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Pieces one after the other, those that are text escaped.

    >>> joined(["a<", Html("<br>")], between=", ")
    'a&lt;, <br>'
    """
    return Html(text(between).join(text(part) for part in parts))


def element(tag: str, *parts: str, attributes: dict[str, str | bool] | None = None) -> Html:
    """An element; attributes that are False are left out, those that are True have no value.

    >>> element("p", "1 < 2", attributes={"class": "note", "hidden": True, "title": False})
    '<p class="note" hidden>1 &lt; 2</p>'
    """
    words = [
        name if value is True else f'{name}="{text(value)}"' for name, value in (attributes or {}).items() if value is not False
    ]
    opened = " ".join([tag, *words])
    return Html(f"<{opened}>" if tag in _VOID else f"<{opened}>{joined(parts)}</{tag}>")
