"""Products and quotients: one factor stays the signal, every other one that moves is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchbcos.kinds.call import Call, Outcome
from torchbcos.kinds.kind import GATE, LINEAR, Kind

__all__ = ["divide", "einsum", "multiply", "power", "product", "reversed_divide", "square"]

_TWO_SIGNALS = "a product of two signals"
_CHOOSE = 'products="half" (or "first", "second") says which of the two stays the signal.'


def multiply(call: Call) -> Outcome:
    """A product is linear in its signal; the factor beside it is held, and of two signals the one from an activation."""
    a, b = call.signal, call.argument(1, "other", "mat2", "vec", "tensor", "vec2")
    if call.inplace:
        return _multiply_in_place(call, a, b)
    options = {k: v for k, v in call.kwargs.items() if k not in ("input", "other", "mat2", "vec", "tensor", "vec2")}
    if call.name == "rmatmul":
        return product(call, b, a, lambda left, right: torch.matmul(left, right))
    return product(call, a, b, lambda left, right: call.run(left, right, *call.args[2:], **options))


def product(call: Call, a: Any, b: Any, run: Callable[[Any, Any], Any]) -> Outcome:
    """What `run(a, b)`, linear in each of the two, is where one or both move."""
    known = call.known(a), call.known(b)
    kinds = known[0].kind, known[1].kind
    if Kind.LINEAR not in kinds:
        return _of_factors(call, a, b, run)
    if kinds != (Kind.LINEAR, Kind.LINEAR):
        first = kinds[0] is Kind.LINEAR
        value = run(a, call.held(b)) if first else run(call.held(a), b)
        number = not isinstance(b if first else a, Tensor) or (b if first else a).dim() == 0
        return value, known[0 if first else 1]._replace(activated=known[0 if first else 1].activated and number)
    return _of_signals(call, a, b, run)


def _of_factors(call: Call, a: Any, b: Any, run: Callable[[Any, Any], Any]) -> Outcome:
    bent = call.worst([a, b])
    if call.watch.full:
        return run(a, b), bent if bent.kind is Kind.BENT else GATE
    return run(call.held(a), call.held(b)), bent if bent.kind is Kind.BENT else GATE


def _of_signals(call: Call, a: Any, b: Any, run: Callable[[Any, Any], Any]) -> Outcome:
    """Both move: that which an activation gave is held (of two the second), as in gated linear units."""
    side = "first" if call.known(b).activated else "second" if call.known(a).activated else call.watch.products
    if side == "first":
        return run(a, call.held(b)), LINEAR
    if side == "second":
        return run(call.held(a), b), LINEAR
    if side == "half":
        return 0.5 * run(a, call.held(b)) + 0.5 * run(call.held(a), b), LINEAR
    value = run(a, b) if call.watch.full else run(call.held(a), call.held(b))
    return value, call.bend(_TWO_SIGNALS, _CHOOSE)


def _multiply_in_place(call: Call, a: Any, b: Any) -> Outcome:
    known, other = call.known(a), call.known(b)
    if known.kind is Kind.LINEAR and (other.kind is not Kind.LINEAR or other.activated):
        return call.run(a, call.held(b)), known._replace(activated=known.activated and not isinstance(b, Tensor))
    if Kind.LINEAR not in (known.kind, other.kind):
        return call.bent() if Kind.BENT in (known.kind, other.kind) else call.gate()
    before = a.clone()  # what stands there is needed for the gradient
    call.watch.record(before, known)
    y, known = product(call, before, before if b is a else b, torch.mul)
    return a.copy_(y), known


def divide(call: Call) -> Outcome:
    """A quotient is linear in its numerator; a denominator that moves is held."""
    a, b = call.signal, call.argument(1, "other")
    known = call.known(a)
    if known.kind is not Kind.LINEAR:
        return call.bent()
    if "rounding_mode" in call.kwargs and call.kwargs["rounding_mode"] is not None:
        return call.bent("it rounds")
    number = not isinstance(b, Tensor) or b.dim() == 0
    options = {k: v for k, v in call.kwargs.items() if k not in ("input", "other")}
    return call.run(a, call.held(b), **options), known._replace(
        activated=known.activated and number and call.kind(b) is Kind.CONSTANT
    )


def reversed_divide(call: Call) -> Outcome:
    """`number / x`: no linear map of x."""
    return call.bent()


def einsum(call: Call) -> Outcome:
    """A sum of products is linear in one operand; all others are held."""
    operands = list(call.args[1:]) if len(call.args) > 2 or isinstance(call.args[1], Tensor) else list(call.args[1])
    signals = [i for i, operand in enumerate(operands) if call.kind(operand) is Kind.LINEAR]
    if len(signals) == 2 and isinstance(call.args[0], str):
        i, j = signals

        def run(a: Tensor, b: Tensor) -> Tensor:
            given = [a if n == i else b if n == j else call.held(o) for n, o in enumerate(operands)]
            y: Tensor = call.run(call.args[0], *given)
            return y

        return product(call, operands[i], operands[j], run)
    if len(signals) != 1 or not isinstance(call.args[0], str):
        return call.bent("a product of several signals" if len(signals) > 1 else "")
    given = [o if i == signals[0] else call.held(o) for i, o in enumerate(operands)]
    return call.run(call.args[0], *given), LINEAR


def power(call: Call) -> Outcome:
    """`x^p` of what an activation gave, p ≥ 1: x times a gate, `x^(p-1)`, which is held."""
    return _power(call, call.argument(1, "exponent"))


def square(call: Call) -> Outcome:
    """`x²`: the product of x and itself."""
    return _power(call, 2)


def _power(call: Call, p: Any) -> Outcome:
    x = call.signal
    known = call.known(x)
    if known.kind is not Kind.LINEAR or call.inplace or isinstance(p, Tensor) or not p >= 1:
        return call.bent()
    if p == 1:
        return call.run(*call.args, **call.kwargs), known
    if known.activated:
        return x * call.held(x).pow(p - 1), LINEAR
    return product(call, x, x, torch.mul) if p == 2 else call.bent()
