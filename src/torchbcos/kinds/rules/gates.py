"""Activations are their input times a gate, which is held; a sigmoid or a softmax is a gate itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import dispatch_mode, is_view
from torchbcos.kernels.gated import Gated, GatedInPlace, clamp_gate, gelu_gate
from torchbcos.kinds.call import Call, Outcome
from torchbcos.kinds.kind import ACTIVATED, Kind
from torchbcos.kinds.named import Part

__all__ = ["activation", "glu", "held", "rectifier"]

_Gate = Callable[[Tensor], Tensor]
_MOST = 256
_ZEROS: dict[object, tuple[Tensor, Tensor, Tensor | float]] = {}  # of functions with their options: what `_at_zero` gives


def _tanh_gate(x: Tensor) -> Tensor:
    return ((x + 0.044715 * x**3) * math.sqrt(2 / math.pi)).tanh() * 0.5 + 0.5


# gates in closed form, of functions that are 0 at 0; all others are (f(x) - f(0)) / x
_CLOSED: dict[str, _Gate] = {
    "gelu": torch.special.ndtr,
    "gelu, tanh": _tanh_gate,
    "silu": torch.sigmoid,
    "hardswish": F.hardsigmoid,
    "mish": lambda x: F.softplus(x).tanh(),
    "relu6": lambda x: 6 / x.clamp_min(6) * (x > 0),  # and a hard tanh from 0 to 6, which nn.ReLU6 calls
}
# the same, sooner, where no derivative of the gate is wanted
_QUICK: dict[str, _Gate] = {"gelu": gelu_gate, "gelu, tanh": lambda x: gelu_gate(x, "tanh"), "relu6": lambda x: clamp_gate(x, 6)}


def held(call: Call) -> Outcome:
    """A factor by nature: its whole value is held."""
    return call.gate()


def glu(call: Call) -> Outcome:
    """`a · sigmoid(b)` of two halves (arXiv 1612.08083): the sigmoid is held."""

    def run() -> Tensor:
        a, b = call.signal.chunk(2, call.argument(1, "dim", default=-1))
        y: Tensor = a * b.sigmoid()
        return y

    return call.again(run)


def rectifier(call: Call) -> Outcome:
    """`x · gate(x)` with a gate that is a choice (ReLU and its family): autograd holds it by itself."""
    return _moving(call) or (call.run(*_signal_first(call), **_others(call)), ACTIVATED)


def activation(call: Call) -> Outcome:
    """`f(x) = x · gate(x) + f(0)` with `gate = (f(x) - f(0)) / x` held; f(0), where it is not 0, is a named constant."""
    early = _moving(call)
    if early is not None:
        return early
    x, func, rest, others = call.signal, call.func, call.args[1:], _others(call)

    # kept by a step of autograd: the call itself would keep the signal, whose history that step is, and none were ever freed
    def run(t: Tensor) -> Tensor:
        y: Tensor = func(t, *rest, **others)
        return y

    inplace = call.inplace or any(a is True for a in call.args[1:])
    name = call.name
    if name == "gelu" and call.argument(1, "approximate", default="none") != "none":
        name = "gelu, tanh"
    if name == "hardtanh" and _bounds(call) == (0, 6):
        name = "relu6"
    if name in _CLOSED:
        return _closed(call, x, run, name, inplace), ACTIVATED
    offset, slope, at_zero = _at_zero(call, run if not inplace else lambda t: run(t.clone()))
    shifted = isinstance(at_zero, Tensor) or at_zero != 0

    def quotient(t: Tensor) -> Tensor:
        y, a = run(t.clone() if inplace else t) - offset, slope.to(t.dtype)
        zero = t == 0
        if shifted:  # where the difference is no more than f'(0) · x and the rounding of f(0), it is f'(0) · x
            zero = zero | ((y - a * t).abs() <= 2 * torch.finfo(t.dtype).eps * offset.abs())
        return torch.where(zero, a, y / t.masked_fill(t == 0, 1))

    gate = _soft_gate(call) or quotient
    if inplace and shifted and is_view(x):
        return call.bent("it adds f(0) in place to a view", "Use inplace=False.")
    if call.watch.full:
        factor = gate(call.held(x.clone() if inplace else x))
        y = x.mul_(factor).add_(offset) if inplace else x * factor + offset
    else:
        y = GatedInPlace.apply(x, run, gate, False) if inplace else Gated.apply(x, run, gate, False)
    return call.naming.added(y, [Part(at_zero, "offset", own=True)]) if shifted else y, ACTIVATED


def _closed(call: Call, x: Tensor, run: _Gate, name: str, inplace: bool) -> Tensor:
    """An activation whose gate is known, and which is 0 at 0."""
    gate = _CLOSED[name]
    if inplace and (call.watch.full or is_view(x)):
        return x.mul_(gate(call.held(x).clone()))
    if call.watch.full:
        return x * gate(call.held(x))
    y: Tensor = (GatedInPlace if inplace else Gated).apply(x, run, _QUICK.get(name, gate), True)
    return y


def _bounds(call: Call) -> tuple[object, object]:
    """Between what a hard tanh keeps its input."""
    return call.argument(1, "min_val", default=-1), call.argument(2, "max_val", default=1)


def _soft_gate(call: Call) -> _Gate | None:
    """The gate of softplus and logsigmoid, whose f(0) swallows a small signal; None of any other."""
    if call.name in ("logsigmoid", "log_sigmoid"):  # -softplus(-x)
        return lambda x: _soft(-x)
    beta, bound = call.argument(1, "beta", default=1), call.argument(2, "threshold", default=20)
    if call.name != "softplus" or isinstance(beta, Tensor) or isinstance(bound, Tensor) or bound < 0 or beta == 0:
        return None

    def gate(x: Tensor) -> Tensor:
        beyond = x * beta > bound  # there softplus is x itself
        return torch.where(beyond, 1 - math.log(2) / beta / x.masked_fill(~beyond, 1), _soft(x * beta))

    return gate


def _soft(z: Tensor) -> Tensor:
    """`log((1 + e^z) / 2) / z`, without cancelling, and without overflow: 1/2 at 0."""
    wide = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    small = wide.abs() < 0.1
    near, far = wide.masked_fill(~small, 0), wide.masked_fill(small, 1)
    squares = near * near
    series = 0.5 + near * (1 / 8 - squares * (1 / 192 - squares * (1 / 2880 - squares * (17 / 645120))))
    return torch.where(small, series, (far.clamp_min(0) + (torch.expm1(-far.abs()) / 2).log1p()) / far).to(z.dtype)


def _moving(call: Call) -> Outcome | None:
    """What comes out where the input is no signal, or an option moves; None where it is an activation of a signal."""
    kind = call.kind(call.signal)
    options = [*call.args[1:], *(v for k, v in call.kwargs.items() if k not in ("input", "self"))]
    if any(call.kind(v) is not Kind.CONSTANT for v in options if isinstance(v, Tensor)):
        return call.bent("an option of it depends on the input")
    if kind is Kind.LINEAR:
        return None
    return call.bent()


def _others(call: Call) -> dict[str, Any]:
    return {k: call.held(v) for k, v in call.kwargs.items() if k not in ("input", "self")}


def _signal_first(call: Call) -> list[Any]:
    return [call.signal, *(call.held(a) for a in call.args[1:])]


def _at_zero(call: Call, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor | float]:
    """f(0) and f'(0), as torch has it, and f(0) again: as a number, where it is one.

    They are remembered for functions whose options are plain: a recorder, in which no number can be looked at, finds those of
    the explanation before it.
    """
    given = [*call.args[1:], *sorted((k, v) for k, v in call.kwargs.items() if k not in ("input", "self"))]
    x: Tensor = call.signal
    key = (call.func, x.dtype, x.device, *given) if all(map(_plain, given)) else None
    if key in _ZEROS:
        return _ZEROS[key]
    options = [v for v in (*call.args[1:], *call.kwargs.values()) if isinstance(v, Tensor) and v is not x]
    shape = torch.broadcast_shapes(*(o.shape for o in options))  # type: ignore[no-untyped-call]
    zero = torch.zeros(shape, dtype=x.dtype, device=x.device, requires_grad=True)
    with torch.enable_grad():
        y = run(zero)
        (slope,) = torch.autograd.grad(y.sum(), zero)
    y = y.detach()
    found = y, slope, (y if bool(y.any()) else 0.0) if shape else float(y)
    if key is not None and not dispatch_mode():
        if len(_ZEROS) >= _MOST:
            _ZEROS.clear()
        _ZEROS[key] = found
    return found


def _plain(value: object) -> bool:
    """An option that is a number or a word, alone or with its name."""
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
