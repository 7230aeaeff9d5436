"""Activations at small signals: the gate in float32 is that in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos.kinds import table
from torchbcos.kinds.table import register_rule

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "softplus, options": lambda x: F.softplus(x, 2.0, 5.0),
    "softplus, beta < 0": lambda x: F.softplus(x, beta=-0.5),
    "softplus, threshold 0": lambda x: F.softplus(x, threshold=0),
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "elu": F.elu,
    "celu": lambda x: F.celu(x, 2.0),
    "selu": F.selu,
    "softsign": F.softsign,
    "hardshrink": F.hardshrink,
    "hardtanh off zero": lambda x: F.hardtanh(x, 0.5, 2.0),
    "clamp off zero": lambda x: x.clamp(-2, -0.5),
    "threshold with a value": lambda x: F.threshold(x, 0.1, 20.0),
    "threshold at zero": lambda x: F.threshold(x, 0.0, 20.0),
}


class Acts(nn.Module):
    """One activation of every number of a picture, and their weighted sum."""

    def __init__(self, form: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.form, self.sign = form, nn.Buffer(torch.ones(48))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.form(x).flatten(1) * self.sign).sum(1, keepdim=True)
        return out


def gate_of(form: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torchbcos.explain(Acts(form).to(x.dtype), x, 0).weights


def signals(size: float) -> Tensor:
    return torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4) * size


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("name", FORMS)
def test_gates_are_exact_at_every_size(name: str, size: float) -> None:
    x = signals(size)
    try:
        want = gate_of(FORMS[name], x.double())
    except torchbcos.BcosError as error:
        assert "zero" in str(error)  # flat there
        return
    off = (gate_of(FORMS[name], x) - want).abs()
    # W times x is what torch gave: of a function whose own digits are lost there (ELU in older releases) no W has more
    lost = (FORMS[name](x).double() - FORMS[name](x.double())).abs() / x.abs()
    assert bool((off <= 1e-5 * want.abs().max() + 2 * lost.reshape(off.shape)).all())


@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.09, 0.11, 3.0, 300.0])
@pytest.mark.parametrize(("beta", "bound"), [(1.0, 20.0), (2.0, 5.0), (-0.5, 20.0)])
def test_softplus_is_its_gate_times_x_and_its_value_at_zero(size: float, beta: float, bound: float) -> None:
    x = signals(size).double()
    gate = gate_of(lambda t: F.softplus(t, beta, bound), x).squeeze(1)
    zero = F.softplus(torch.zeros((), dtype=x.dtype), beta, bound)
    assert torch.allclose(gate * x + zero, F.softplus(x, beta, bound), atol=1e-14, rtol=1e-13)
    inner = gate.flatten()[(x.flatten() * beta).abs() < min(1, bound)]
    assert bool(((inner > 0.3) & (inner < 0.7)).all())


@pytest.mark.parametrize("form", [F.softplus, F.logsigmoid])
def test_a_signal_of_zero_has_half_of_it(form: Callable[[Tensor], Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(gate_of(form, torch.zeros(1, 3, 4, 4, dtype=dtype)), torch.full((1, 1, 3, 4, 4), 0.5, dtype=dtype))


def test_an_activation_of_somebody_takes_its_slope_at_small_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_registered", {})
    register_rule(torch.exp2, torchbcos.kinds.rules.activation)
    x = signals(1e-6)
    gate = gate_of(torch.exp2, x)
    assert float((gate - gate_of(torch.exp2, x.double())).abs().max()) < 1e-5
