"""Choices: which number is taken is held, so the result is linear in what is taken."""

from __future__ import annotations

from torch import Tensor

from torchbcos.kinds.call import Call, Outcome
from torchbcos.kinds.kind import Kind
from torchbcos.kinds.rules.sums import extremum

__all__ = ["choice", "finite", "largest"]


def choice(call: Call) -> Outcome:
    """The largest, the median, the k-th: which one is held."""
    known = call.known(call.signal)
    if known.kind is not Kind.LINEAR:
        return call.bent()
    return call.run(*call.args, **call.kwargs), known._replace(activated=False)


def finite(call: Call) -> Outcome:
    """Finite numbers stay as they are: linear where all are; what stands in for others is nobody's constant."""
    known = call.known(call.signal)
    if known.kind is not Kind.LINEAR:
        return call.bent()
    if not bool(call.held(call.signal).isfinite().all()):
        return call.bent("it replaces numbers that are not finite")
    return call.run(*call.args, **call.kwargs), known


def largest(call: Call) -> Outcome:
    """`max` and `min`, of one tensor or of two: which number is taken is held."""
    if isinstance(call.argument(1, "other"), Tensor):
        call.name = "minimum" if call.name == "min" else "maximum"
        return extremum(call)
    return choice(call)
