"""Sums, joins and choices of several tensors: what does not depend on the input among them is a named constant."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import base_of
from torchbcos.kinds.call import Call, Outcome, tensors_in
from torchbcos.kinds.kind import GATE, LINEAR, Kind
from torchbcos.kinds.named import Part

__all__ = ["add", "addcdiv", "addcmul", "addmm", "choose", "extremum", "fill", "index_add", "join", "lerp", "overwrite", "pad",
    "refill", "subtract",
]  # fmt: skip

_HELD = "a value that depends on the input, and is held, is added to a signal"
_JOINED = "a value that depends on the input, and is held, is joined to a signal"


_OLD = "numbers stand before its tensors, a spelling that torch calls deprecated", "Give value=, alpha= and beta= by name."


def add(call: Call) -> Outcome:
    """A sum of signals is linear; a constant in it is named."""
    if len(call.args) > 2:
        return call.bent(*_OLD)
    return _sum(call, call.signal, call.argument(1, "other"), float(call.kwargs.get("alpha", 1)))


def subtract(call: Call) -> Outcome:
    """A difference of signals is linear; a constant in it is named."""
    if len(call.args) > 2:
        return call.bent(*_OLD)
    a, b, alpha = call.signal, call.argument(1, "other"), float(call.kwargs.get("alpha", 1))
    return _sum(call, a, b, 1.0, first=-alpha) if call.name == "rsub" else _sum(call, a, b, -alpha)


def _sum(call: Call, a: Any, b: Any, second: float, *, first: float = 1.0) -> Outcome:
    """`first · a + second · b`, computed by the operation itself."""
    known = call.known(a), call.known(b)
    kinds = {known[0].kind, known[1].kind}
    if Kind.LINEAR not in kinds:
        return call.bent()
    if kinds - {Kind.LINEAR, Kind.CONSTANT}:
        return call.bent(_HELD + call.giver() if Kind.GATE in kinds else "")
    if kinds == {Kind.LINEAR}:
        return call.run(*call.args, **call.kwargs), LINEAR
    c, factor = (b, second) if known[0].kind is Kind.LINEAR else (a, first)
    signal = known[0] if known[0].kind is Kind.LINEAR else known[1]
    scaled = c * factor if factor != 1 else c
    keeps = signal.activated and not isinstance(c, Tensor)  # shifted by a number
    if call.inplace:
        return _add_in_place(call, a, b, scaled), signal._replace(activated=keeps)
    y = call.run(*(call.held(v) if v is c else v for v in call.args), **call.kwargs)
    return call.naming.added(y, [Part(scaled, "added", c if isinstance(c, Tensor) else None)]), signal._replace(activated=keeps)


def _add_in_place(call: Call, a: Tensor, b: Any, scaled: Any) -> Tensor:
    if call.kind(a) is Kind.CONSTANT:  # a signal added to what was constant
        call.naming.in_place(a, "added")
        written: Tensor = call.run(*call.args, **call.kwargs)
        return written
    own = not isinstance(scaled, Tensor)
    if own:
        scaled = torch.as_tensor(scaled, dtype=a.dtype, device=a.device)
    owner = b if isinstance(b, Tensor) else None
    return a.add_(call.naming.leaf(scaled.expand_as(a), "added", a, owner=owner, own=own))


def addcmul(call: Call) -> Outcome:
    """`x + value · a · b`: a sum of a product."""
    x, a, b, value = call.signal, call.argument(1, "tensor1"), call.argument(2, "tensor2"), call.kwargs.get("value", 1)
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return call.bent(*_OLD)
    return call.again(lambda: x.add_(a * b * value) if call.inplace else x + a * b * value)


def addcdiv(call: Call) -> Outcome:
    """`x + value · a / b`: a sum of a quotient."""
    x, a, b, value = call.signal, call.argument(1, "tensor1"), call.argument(2, "tensor2"), call.kwargs.get("value", 1)
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return call.bent(*_OLD)
    return call.again(lambda: x.add_(a / b * value) if call.inplace else x + a / b * value)


def addmm(call: Call) -> Outcome:
    """`β · x + α · A B`: a sum of a product."""
    x, a, b = call.signal, call.argument(1, "mat1", "batch1", "mat"), call.argument(2, "mat2", "batch2", "vec")
    if not all(isinstance(part, Tensor) for part in (x, a, b)) or len(call.args) > 3:
        return call.bent(*_OLD)
    if call.inplace:
        return call.bent("", "Write it as y = x + a @ b.")
    alpha, beta = call.kwargs.get("alpha", 1), call.kwargs.get("beta", 1)

    def run() -> Any:
        y = (a @ b).sum(0) if call.name == "addbmm" else a @ b
        y = y if alpha == 1 else y * alpha
        return y if beta == 0 else y + (x if beta == 1 else x * beta)

    return call.again(run)


def lerp(call: Call) -> Outcome:
    """`a + w · (b - a)`: a sum of products."""
    a, b, w = call.signal, call.argument(1, "end"), call.argument(2, "weight")
    return call.again(lambda: a.add_(w * (b - a)) if call.inplace else a + w * (b - a))


def join(call: Call) -> Outcome:
    """Signals one beside another are linear; a constant among them (a class token, a position) is named."""
    given = call.signal
    many = call.name == "block_diag" or isinstance(given, Tensor)
    parts = list(call.args) if many else list(given)
    kinds = {call.kind(part) for part in parts}
    if Kind.LINEAR not in kinds:
        return call.bent()
    if kinds - {Kind.LINEAR, Kind.CONSTANT}:
        return call.bent(_JOINED + call.giver() if Kind.GATE in kinds else "")
    like = next(part for part in parts if call.kind(part) is Kind.LINEAR)
    named = [part if call.kind(part) is Kind.LINEAR else call.naming.leaf(part, "joined", like) for part in parts]
    rest = call.args[1:] if not many else ()
    options = {k: v for k, v in call.kwargs.items() if k != "tensors"}
    activated = all(call.known(part).activated for part in parts)
    return (call.run(*named) if many else call.run(named, *rest, **options)), LINEAR._replace(activated=activated)


def choose(call: Call) -> Outcome:
    """`where(condition, a, b)`: the choice is held; a constant that may be chosen is named."""
    if len(call.args) == 1 and not call.kwargs:
        return call.gate()  # the places where it holds
    if call.func is Tensor.where:  # x.where(condition, other)
        a, condition, b = call.args[0], call.argument(1, "condition"), call.argument(2, "other")
    else:
        condition, a, b = call.argument(0, "condition"), call.argument(1, "input", "self"), call.argument(2, "other")
    kinds = {call.kind(a), call.kind(b)}
    if Kind.LINEAR not in kinds:
        return call.bent()
    if kinds - {Kind.LINEAR, Kind.CONSTANT}:
        return call.bent(_HELD + call.giver() if Kind.GATE in kinds else "")
    like = a if call.kind(a) is Kind.LINEAR else b
    shape = torch.broadcast_shapes(condition.shape, *(v.shape for v in (a, b) if isinstance(v, Tensor)))  # type: ignore[no-untyped-call]
    first, second = (_chosen(call, v, like, shape) for v in (a, b))
    return torch.where(call.held(condition), first, second), LINEAR


def _chosen(call: Call, v: Any, like: Tensor, shape: torch.Size) -> Any:
    if call.kind(v) is Kind.LINEAR:
        return v
    owner = v if isinstance(v, Tensor) else None
    own = owner is None
    v = v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=like.dtype, device=like.device)
    return call.naming.leaf(v.expand(shape) if call.watch.state.batch > 1 else v, "chosen", like, owner=owner, own=own)


def extremum(call: Call) -> Outcome:
    """The larger (or smaller) of two signals: the choice is held."""
    a, b = call.signal, call.argument(1, "other")
    kinds = {call.kind(a), call.kind(b)}
    if kinds == {Kind.LINEAR}:
        return call.run(*call.args, **call.kwargs), LINEAR
    if kinds == {Kind.LINEAR, Kind.CONSTANT}:
        smaller = call.name in ("minimum", "fmin")
        return call.again(lambda: torch.where(a <= b if smaller else a >= b, a, b))
    return (
        call.bent(_HELD + call.giver() if Kind.GATE in kinds and Kind.LINEAR in kinds else "")
        if Kind.BENT in kinds or Kind.LINEAR in kinds
        else call.gate()
    )


def pad(call: Call) -> Outcome:
    """Padding by zeros or by the signal itself is linear; another number around it is a named constant."""
    x, known = call.signal, call.known(call.signal)
    mode, value = call.argument(2, "mode", default="constant"), call.argument(3, "value")
    if call.name == "constant_pad_nd":
        mode, value = "constant", call.argument(2, "value")
    if known.kind is not Kind.LINEAR:
        return call.bent()
    if call.kind(value) is not Kind.CONSTANT:
        return call.bent(_HELD + call.giver())
    y = call.run(*call.args, **call.kwargs)
    if mode == "constant" and value:
        border = F.pad(torch.zeros_like(x), call.argument(1, "pad"), value=value)
        y = call.naming.added(y, [Part(border, "padding", own=True)]) if bool(torch.isfinite(border).all()) else y
    return y, known._replace(activated=known.activated and not value)


def fill(call: Call) -> Outcome:
    """Some places are filled with a number: where is held, and the number is a named constant."""
    x, mask, value = call.signal, call.argument(1, "mask"), call.argument(2, "value")
    if call.kind(x) is not Kind.LINEAR:
        return call.bent()
    if call.kind(value) is not Kind.CONSTANT:
        return call.bent(_HELD + call.giver())
    known, finite = call.known(x), bool(torch.isfinite(torch.as_tensor(value)).all())
    if not finite:
        return call.run(*call.args, **call.kwargs), known
    own = not isinstance(value, Tensor) or call.watch.origins.is_known(value)
    filled = torch.where(mask, torch.as_tensor(value, dtype=x.dtype, device=x.device), x.new_zeros(()))
    if call.inplace:
        return x.masked_fill_(mask, 0).add_(call.naming.leaf(filled.expand_as(x), "filled", x, own=own)), known
    y = call.run(*call.args, **call.kwargs)
    return call.naming.added(y, [Part(filled, "filled", own=own)]), known


def refill(call: Call) -> Outcome:
    """All of a tensor is overwritten, with one number: a named constant, where it is one."""
    x, value = call.args[0], 0 if call.name == "zero" else call.argument(1, "value")
    kind = call.kind(value)
    if kind is not Kind.CONSTANT or call.kind(x) is not Kind.LINEAR:
        known = call.known(value) if kind is Kind.LINEAR else call.bend() if kind is Kind.BENT else GATE
        return call.run(*call.args, **call.kwargs), known
    x.zero_()
    filled = torch.as_tensor(value, dtype=x.dtype, device=x.device).expand_as(x)
    return x.add_(call.naming.leaf(filled, "filled", x, own=not isinstance(value, Tensor))), LINEAR


# where the operations that overwrite have what comes
_COMES = {"setitem": 2, "index_put": 2, "masked_scatter": 2, "copy": 1, "slice_scatter": 1, "select_scatter": 1}


def overwrite(call: Call) -> Outcome:
    """A part is overwritten, or added to: both what was there and what comes must be signals or constants."""
    x, place = call.signal, _COMES.get(call.name, 3)
    value = call.argument(place, "source", "src", "values", "value")
    if call.name == "scatter" and not isinstance(value, Tensor) and call.kind(x) is Kind.LINEAR and "reduce" not in call.kwargs:
        return _scatter_number(call, x, value)
    floats = [t for t in tensors_in(call.args[1:], call.kwargs) if t.is_floating_point() and t is not value]
    kinds = {call.kind(v) for v in (x, value, *floats)}
    if Kind.LINEAR not in kinds:
        return call.bent()
    if call.kwargs.get("reduce") is not None:
        return call.bent("it does not only add")
    if kinds - {Kind.LINEAR, Kind.CONSTANT}:
        return call.bent(_JOINED + call.giver() if Kind.GATE in kinds else "")
    if call.name == "copy":
        if call.kind(x) is Kind.CONSTANT and base_of(x) is not x:  # what is left of a constant around it
            call.naming.in_place(x, "joined")
        if call.kind(value) is Kind.CONSTANT:
            return x.copy_(call.naming.leaf(value.expand_as(x), "joined", x, owner=value)), LINEAR
        return call.run(*call.args, **call.kwargs), call.known(value)
    args, kwargs = list(call.args), dict(call.kwargs)
    if call.kind(x) is Kind.CONSTANT and call.inplace:
        call.naming.in_place(x, "joined")
    elif call.kind(x) is Kind.CONSTANT:
        args[0] = call.naming.leaf(x, "joined", value)
    elif call.kind(value) is Kind.CONSTANT and value is not None:
        key = next((k for k in ("source", "src", "values", "value") if k in kwargs), None)
        named = call.naming.leaf(value, "joined", x)
        if key is None:
            args[place] = named
        elif isinstance(value, Tensor):
            kwargs[key] = named
        elif value:
            return call.bent("it writes a number into a signal", "Write y = torch.where(mask, number, x).")
    return call.run(*args, **kwargs), LINEAR


def index_add(call: Call) -> Outcome:
    """Something is added to a part: as above, and what it is multiplied by must be a number that does not move."""
    if call.kind(call.kwargs.get("alpha")) is not Kind.CONSTANT:
        return call.bent("what it adds is multiplied by a value that depends on the input" + call.giver())
    return overwrite(call)


def _scatter_number(call: Call, x: Tensor, value: float) -> Outcome:
    """`x.scatter(dim, index, number)`: as with a tensor of that number, which can be measured."""
    dim, index = call.argument(1, "dim"), call.argument(2, "index")
    source = torch.full(index.shape, value, dtype=x.dtype, device=x.device)
    return call.again(lambda: x.scatter_(dim, index, source) if call.inplace else x.scatter(dim, index, source))
