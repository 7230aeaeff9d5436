from __future__ import annotations

import html

from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.letters import printable
from torchbcos.rendering.markup import Html, element, joined, text


@given(st.text(max_size=60))
def test_text_comes_back_and_opens_nothing(words: str) -> None:
    made = text(words)
    assert html.unescape(made) == printable(words) and not set("<>\"'") & set(made)
    assert text(made) == made


def test_only_our_own_html_stays() -> None:
    assert joined([Html("<b>"), "<b>"], "<") == "<b>&lt;&lt;b&gt;"
    assert isinstance(Html("<b>") + "<i>", str) and not isinstance(Html("<b>") + "<i>", Html)  # a sum is text again


def test_elements() -> None:
    assert element("img", attributes={"alt": '"'}) == '<img alt="&quot;">'
    assert element("td", "a", attributes={"hidden": False}) == "<td>a</td>"
