"""Silence is impossible: a planted operation is explained as its twin is, or refused by name (see `planted.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.unit.kinds.planted import CASES
from tests.unit.kinds.planted_layers import official_cases
from tests.unit.kinds.planted_state import PROVED
from tests.unit.kinds.planting import Case, build, doubles, first_silent, judge, off, picture
from torchbcos import Explanation, explain
from torchbcos._core.errors import BcosError, StateError
from torchbcos._core.frozen import frozen
from torchbcos.testing import LawBroken, check_model

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
    planted = model.planted(x.clone())
    with frozen():  # for B-cos layers that are planted
        held = case.held(model.planted, x)
    assert off(planted, held) < 1e-9
    direction = torch.randn(held.shape)
    (w,) = torch.autograd.grad((held * direction).sum(), x, create_graph=True)
    if w.requires_grad:
        try:
            (moved,) = torch.autograd.grad((w * torch.randn(w.shape)).sum(), x, allow_unused=True)
        except RuntimeError as error:  # of a moving grid in older releases
            if "is not implemented" not in str(error):
                raise
            pytest.skip("this torch has no second derivative of the twin")
        assert moved is None or not moved.any()
    if not case.constants:
        with torch.no_grad():
            missed = (held * direction).sum() - (w * x).sum()
            assert abs(missed) < 1e-9 * (held * direction).abs().sum()


@pytest.mark.filterwarnings("ignore")  # foreign operations warn, and that is not what is tested
@pytest.mark.parametrize("case", [case for case in CASES if case.held is None], ids=name_of)
def test_a_case_runs(case: Case) -> None:
    model = build(case, "conv")
    y = model(picture())
    assert y.shape == (2, 5) and y.isfinite().all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_nothing_is_silent(case: Case) -> None:
    happened = {host: judge(explain, case, host) for host in case.hosts}
    allowed = {case.expect} if case.expect else {"explained", "refused"} if case.held else {"refused"}
    assert set(happened.values()) <= allowed, happened


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_official_layers_are_not_silent() -> None:
    pytest.importorskip("bcos.modules")
    assert first_silent(explain, official_cases()) is None


def plain_gradient(model: nn.Module, x: Tensor) -> Explanation:
    """What an explanation without kinds gives: W is the gradient inside `frozen()`, and all that is missing a constant."""
    leaf = x.clone().requires_grad_()
    with frozen():
        outputs = model(leaf)
    values, targets = outputs.max(1, keepdim=True)
    try:
        (weights,) = torch.autograd.grad(values.sum(), leaf)
    except RuntimeError as error:
        raise StateError(f"No derivative: {error}") from error
    rest = (values - (weights * x).flatten(1).sum(1, keepdim=True)).detach()
    return Explanation(
        inputs=x, outputs=outputs.detach(), targets=targets, values=values.detach(), weights=weights.unsqueeze(1),
        constants={"rest": rest}, fixed=(), tolerance=1e-9,
    )  # fmt: skip


def refuses(model: nn.Module, x: Tensor) -> Explanation:
    raise StateError("This network cannot be explained.")


@pytest.mark.filterwarnings("ignore")
def test_the_catalogue_can_fail() -> None:
    caught = [case for case in TWINS if "W is off" in judge(plain_gradient, case, "conv")]
    assert len(caught) >= 60
    assert {"GRN", "QK-normalised attention", "x|x|/||x|| by hand", "degree 0: einsum"} <= {case.name for case in caught}
    without = [case for case in CASES if case.held is None]
    assert len(without) >= 60 and all(first_silent(plain_gradient, [case]) for case in without[::20])


def test_a_refusal_has_to_name_the_operation() -> None:
    assert "does not name" in str(first_silent(refuses, CASES[:1]))


SPOTS = ["GRN", "QK-normalised attention", "SwiGLU", "nn.MultiheadAttention", "LSTM", "x + round", "sigmoid, whole", "x + detach"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPOTS)
def test_check_model_agrees(name: str) -> None:
    """What is explained passes, what is refused does not."""
    case = next(case for case in CASES if case.name == name)
    for host in case.hosts:
        model, x = build(case, host), picture()
        if judge(explain, case, host) == "explained":
            check_model(model, x)
        else:
            with pytest.raises(BcosError):
                check_model(model, x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", PROVED, ids=name_of)
def test_what_a_proof_alone_can_see(case: Case) -> None:
    """Numbers of another thread are numbers like any other; at another input they are others."""
    model, x = build(case, "conv"), picture()
    explain(model, x)
    with pytest.raises(BcosError, match=r"Constants are constant: .*planted\.(added|norm\.bias)"):
        explain(model, x, verify=True)
    with pytest.raises(LawBroken, match=r"Constants are constant: .*planted\.(added|norm\.bias)"):
        check_model(model, x)
