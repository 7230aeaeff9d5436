"""Silence is impossible: a planted operation is explained as its twin is, or refused by name (see `planted.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.unit.kinds.planted import CASES
from tests.unit.kinds.planting import Case, build, doubles, off, picture

TWINS = [case for case in CASES if case.held is not None]


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    with doubles():
        yield


def name_of(case: Case) -> str:
    return case.name


def signal_of(case: Case) -> Tensor:
    """A signal as the planted module sees it, which derivatives can be taken of."""
    return build(case, "conv").before(picture()).detach().requires_grad_()


@pytest.mark.parametrize("case", TWINS, ids=name_of)
def test_a_twin_is_what_it_says(case: Case) -> None:
    """The same outputs; linear: W of the twin does not move with the signal, and carries all but its constants."""
    assert case.held is not None
    x, model = signal_of(case), build(case, "conv")
    planted, held = model.planted(x.clone()), case.held(model.planted, x)
    assert off(planted, held) < 1e-9
    direction = torch.randn(held.shape)
    (w,) = torch.autograd.grad((held * direction).sum(), x, create_graph=True)
    if w.requires_grad:
        (moved,) = torch.autograd.grad((w * torch.randn(w.shape)).sum(), x, allow_unused=True)
        assert moved is None or not moved.any()
    if not case.constants:
        value, size = float((held * direction).sum()), float((held * direction).abs().sum())
        assert abs(value - float((w * x).sum())) < 1e-9 * size


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_case_runs(case: Case) -> None:
    model = build(case, "conv")
    y = model(picture())
    assert y.shape == (2, 5) and y.isfinite().all()
