"""The four kinds."""

from __future__ import annotations

from torchbcos.kinds.kind import ACTIVATED, CONSTANT, GATE, LINEAR, Kind


def test_what_comes_from_an_activation_is_linear() -> None:
    assert ACTIVATED.kind is LINEAR.kind is Kind.LINEAR
    assert ACTIVATED != LINEAR and ACTIVATED.activated
    assert (CONSTANT.kind, GATE.kind) == (Kind.CONSTANT, Kind.GATE)
