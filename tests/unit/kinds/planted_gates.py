"""Planted activations and what resembles them: `f(x) = x · held + f(0)`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.kinds.planting import Case, doubles, twins

__all__ = ["GATES"]


def _gates() -> list[Case]:
    """Activations and what resembles them: `f(x) = x · held + f(0)`."""
    forms = {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
        "gelu": F.gelu,
        "silu": F.silu,
        "hardswish": F.hardswish,
        "mish": F.mish,
        "elu": F.elu,
        "celu": F.celu,
        "selu": F.selu,
        "tanh": torch.tanh,
        "softsign": F.softsign,
        "hardtanh": F.hardtanh,
        "relu6": F.relu6,
        "softshrink": F.softshrink,
        "hardshrink": F.hardshrink,
        "tanhshrink": F.tanhshrink,
        "logsigmoid": F.logsigmoid,
        "softplus": F.softplus,
        "erf": torch.erf,
        "arctan": torch.arctan,
        "asinh": torch.asinh,
        "sin": torch.sin,
        "sinh": lambda x: torch.sinh(x / 9),
        "expm1": lambda x: torch.expm1(x / 9),
        "log1p of a size": lambda x: x.sign() * x.abs().log1p(),
        "abs": torch.abs,
        "x.abs_()": lambda x: x.clone().abs_(),
        "square": torch.square,
        "x * x": lambda x: x * x,
        "pow 2": lambda x: x.pow(2),
        "pow 3": lambda x: x**3,
        "x.square_()": lambda x: x.clone().square_(),
        "x * sigmoid": lambda x: x * x.sigmoid(),
        "x * expit": lambda x: x * torch.special.expit(x),
        "sigmoid_ of a copy": lambda x: x * x.clone().sigmoid_(),
        "masked_fill 0": lambda x: x.masked_fill(x < 0, 0.0),
        "where 0": lambda x: torch.where(x > 0.3, x, 0.0),
        "x * (x > 0)": lambda x: x * (x > 0),
        "x[x < 0] = 0": _cut,
        "clamp": lambda x: x.clamp(-1, 1.5),
        "clamp_min": lambda x: x.clamp_min(0),
        "maximum with 0": lambda x: torch.maximum(x, torch.zeros(())),
        "threshold": lambda x: F.threshold(x, 0.2, 0.0),
        "rrelu": F.rrelu,
        "relu_": lambda x: x.clone().relu_(),
        "aten.relu": torch.ops.aten.relu,
        "aten.silu_": lambda x: torch.ops.aten.silu_(x.clone()),
        "heaviside": lambda x: x * torch.heaviside(x, torch.zeros(())),
        "sign": lambda x: x * torch.sign(x),
        "one_hot of argmax": lambda x: x * F.one_hot(x.argmax(1), 8).movedim(-1, 1),
        "bernoulli of 0 and 1": lambda x: x * torch.bernoulli((x > 0).to(x)),
    }
    cases = []
    for name, f in forms.items():
        zero = f(torch.zeros(1, 8, 1, 1, dtype=torch.float64))[:, :1]
        held = lambda x, f=f, zero=zero: x * ((f(x) - zero) / x).detach() + zero
        says = (name.split()[0].strip("x.()_"), *_GATE_WORDS.get(name, ()))
        cases += twins({name: f}, held, *says, constants=bool(zero.abs().max() > 0), expect=_EXPECTED.get(name, ""))
    return cases


def _cut(x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0] = 0
    return y


_GATE_WORDS = {
    "x * x": ("mul",),
    "pow 2": ("pow",),
    "pow 3": ("pow",),
    "x * sigmoid": ("mul",),
    "x * expit": ("expit",),
    "sigmoid_ of a copy": ("sigmoid",),
    "masked_fill 0": ("masked_fill",),
    "where 0": ("where",),
    "x * (x > 0)": ("mul",),
    "x[x < 0] = 0": ("setitem",),
    "log1p of a size": ("log1p", "abs"),
    "maximum with 0": ("maximum",),
    "sign": ("sign", "mul"),
    "one_hot of argmax": ("one_hot",),
    "logsigmoid": ("log_sigmoid",),
    "aten.relu": ("relu",),
    "aten.silu_": ("silu",),
}
_EXPECTED = dict.fromkeys(
    (
        "relu",
        "leaky_relu",
        "gelu",
        "silu",
        "hardswish",
        "mish",
        "elu",
        "tanh",
        "hardtanh",
        "relu6",
        "x * sigmoid",
        "relu_",
        "where 0",
    ),
    "explained",
)


with doubles():
    GATES: list[Case] = _gates()
