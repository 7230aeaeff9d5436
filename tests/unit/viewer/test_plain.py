"""What pages share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from torchbcos.viewer.plain import plain, versions


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_nothing_unseen_is_left_anywhere(value: object) -> None:
    def check(one: object) -> None:
        if isinstance(one, str):
            assert "\u202e" not in one and "\x1b" not in one
        for inner in [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []:
            check(inner)

    check(plain({"a": [value, "\u202e\x1b[31m"], "\u202e": "b"}))


def test_versions_are_those_that_run() -> None:
    assert versions()["torchbcos"] == torchbcos.__version__
