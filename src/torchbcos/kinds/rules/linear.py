"""Linear maps: an operation that is linear in its signal stays as it is; a bias is a constant, named after its parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.atoms import atoms, unnamed
from torchbcos.kinds.call import Call, Outcome, tensors_in
from torchbcos.kinds.kind import ACTIVATED, CONSTANT, LINEAR, Kind
from torchbcos.kinds.named import Part
from torchbcos.kinds.rules.products import product
from torchbcos.kinds.rules.reading import note

__all__ = ["alpha_dropout", "atom", "like", "linear_map", "map_with_bias", "settled", "shaped_as", "view"]


def view(call: Call) -> Outcome:
    """The same numbers in another order, shape or dtype: linear, and still what an activation gave."""
    return _along(call, keeps=True)


def linear_map(call: Call) -> Outcome:
    """Sums and means of numbers: linear."""
    return _along(call, keeps=False)


def shaped_as(call: Call) -> Outcome:
    """The numbers of its first argument in the shape, dtype or place of another tensor: that one's numbers do not count."""
    known = call.known(call.signal)
    value = call.run(*call.args, **call.kwargs)
    if known.kind is Kind.CONSTANT:
        call.watch.origins.made(value, [call.signal])
    return value, known


def like(call: Call) -> Outcome:
    """A new tensor in the shape of another: a constant, but for what it is filled with."""
    filled = tensors_in(call.args[1:], {**call.kwargs, "input": None, "self": None})
    if any(call.kind(t) is not Kind.CONSTANT for t in filled):
        return call.bent("it is filled with what depends on the input")
    value = settled(call.name, call.run(*call.args, **call.kwargs))
    call.watch.origins.made(value, filled)
    return value, CONSTANT


def settled(name: str, value: Any) -> Any:
    """A new tensor; what `empty` leaves in it is no constant of anybody's, and may be no number: zeros instead."""
    if name.startswith(("empty", "new_empty")) and isinstance(value, Tensor):
        value.detach().zero_()
    return value


def alpha_dropout(call: Call) -> Outcome:
    """In training it adds constants nobody can name; otherwise it does nothing."""
    return call.bent("in training mode") if call.argument(2, "training") else view(call)


def _along(call: Call, *, keeps: bool) -> Outcome:
    known = call.known(call.signal)
    others = [t for t in tensors_in(call.args[1:], call.kwargs) if t.is_floating_point() and t is not call.signal]
    if known.kind is not Kind.LINEAR:  # of a constant: a table that is looked up by what moves
        return call.bent()
    if call.name != "grid_sample" and any(call.kind(t) is not Kind.CONSTANT for t in others):
        return call.bent("another of its arguments depends on the input")
    if call.name == "diff" and others:
        return call.bent("with something before or after it", "Write torch.diff(torch.cat([before, x, after])).")
    if any(t.dtype is torch.bool and call.kind(t) is not Kind.CONSTANT for t in tensors_in(call.args[1:], call.kwargs)):
        note(call)  # a mask: how many there are can be read from the size
    if call.name == "diff" and any(call.kind(t) is not Kind.CONSTANT for t in tensors_in(call.args[1:], _options(call))):
        return call.bent("what it joins depends on the input")
    value = call.run(*call.args, **call.kwargs) if call.inplace else call.run_with(call.signal)
    return value, known if keeps else known._replace(activated=False)


def _options(call: Call) -> dict[str, Any]:
    return {key: value for key, value in call.kwargs.items() if value is not call.signal}


def map_with_bias(call: Call) -> Outcome:
    """`W x + b` is linear in x; where W moves as well, one of the two is held. b is a named constant."""
    x, weight, bias = call.signal, call.argument(1, "weight"), call.argument(2, "bias")
    if call.kind(bias) is not Kind.CONSTANT or not isinstance(x, Tensor):
        return call.bent("its bias depends on the input")
    flat = call.name == "linear" and x.dim() > 2 and weight.dim() == 2  # its result would be a view else
    options = {key: value for key, value in call.kwargs.items() if key not in ("input", "weight", "bias")}
    plain = call.watch.plain(bias) if isinstance(bias, Tensor) else None

    def run(a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = call.run(a.reshape(-1, a.shape[-1]) if flat else a, b, plain, *call.args[3:], **options)
        return y

    y, known = product(call, x, weight, run)
    if known.kind is Kind.LINEAR and bias is not None:
        space = 0 if call.name == "linear" else weight.dim() - 2
        part = Part(bias.reshape(-1, *[1] * space), "bias", bias)
        y = call.naming.added(y, [part], rows=x.shape[0] if flat else None)
    return y.reshape(*x.shape[:-1], y.shape[-1]) if flat else y, known


def atom(call: Call) -> Outcome:
    """Our own layers hold their factors and name their constants: linear in their signal."""
    facts = atoms()[call.func]
    values = list(call.args)
    signal = values[facts.signal]
    known = call.known(signal)
    others = {place: v for place, v in enumerate(values) if isinstance(v, Tensor) and place != facts.signal}
    if facts.gives == "sum" and any(call.kind(v) is not Kind.CONSTANT for v in others.values()):
        return call.bent("what it adds depends on the input")
    if any(call.kind(v) is not Kind.CONSTANT for v in _shifts(call)):
        return call.bent("what it adds depends on the input")
    for place, other in others.items():
        values[place] = other if call.kind(other) is Kind.CONSTANT else call.held(other)
    kwargs: dict[str, Any] = {k: v if call.kind(v) is Kind.CONSTANT else call.held(v) for k, v in call.kwargs.items()}
    if facts.gives == "gate":
        return call.func(*values, **kwargs), CONSTANT._replace(kind=Kind.GATE)
    if known.kind is Kind.LINEAR:
        return call.func(*values, **kwargs), ACTIVATED if facts.gives == "activation" else LINEAR
    with unnamed():  # of a factor, or of a constant beside something that moves
        value = call.func(*values, **kwargs)
    return value, known if known.kind is Kind.BENT else CONSTANT._replace(kind=Kind.GATE)


def _shifts(call: Call) -> list[Any]:
    """What an atom adds to its signal: arguments that are called a bias."""
    place = _place_of_bias(call.func)
    given = [call.kwargs["bias"]] if "bias" in call.kwargs else []
    return [*given, call.args[place]] if place is not None and place < len(call.args) else given


@functools.cache  # atoms are functions of this library: few, and for good
def _place_of_bias(atom: Callable[..., Any]) -> int | None:
    names = list(inspect.signature(atom).parameters)
    return names.index("bias") if "bias" in names else None
