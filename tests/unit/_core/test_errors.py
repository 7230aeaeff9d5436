"""Errors a user can cause: one sentence that fits a terminal, whatever a file put into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core import errors
from torchbcos._core.letters import unseen

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_message_quotes_commands_no_terminal(kind: type[errors.BcosError]) -> None:
    assert str(kind("the class 'a\x1b[2J\u202eb' of 猫.png")) == "the class 'a\\x1b[2J\\u202eb' of 猫.png"


@given(st.text(max_size=600), st.sampled_from([1, 10, 1000]))
def test_messages_are_short_and_end_with_the_next_step(text: str, times: int) -> None:
    said = str(errors.InputError(text * times + ": do this."))
    assert len(said) <= 500 and said.endswith(": do this.")
    assert not any(unseen(said, i) for i in range(len(said)) if said[i] != "…")
