"""Queries and Accept headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos.service.limits import Limits
from torchbcos.service.questions import form_of
from torchbcos.service.refusals import Refused


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "json"), ("image/png", "png"), ("application/json;q=0.5, image/png", "png"), ("", "json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "json"), ("application/x-npz", "npz"),
        ("image/png;q=0, application/json", "json"),
    ],
)  # fmt: skip
def test_forms(accept: str, form: str) -> None:
    assert form_of(accept) == form


@given(accept=st.text(max_size=80))
def test_any_header_is_a_form_or_a_refusal(accept: str) -> None:
    try:
        assert form_of(accept) in ("json", "png", "npz")
    except Refused as refused:
        assert refused.status == 406


@pytest.mark.parametrize("limit", [{"bytes": 0}, {"queue": 1.5}, {"seconds": float("inf")}, {"models": True}, {"top_k": "3"}])
def test_limits_are_positive_numbers(limit: dict[str, object]) -> None:
    with pytest.raises(InputError, match="is a positive number"):
        Limits(**limit)  # type: ignore[arg-type]
