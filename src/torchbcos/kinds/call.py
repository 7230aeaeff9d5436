"""One call of an operation, as a rule sees it: what came in, of what kinds, and what can be done with it."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torchbcos._core.names import quote
from torchbcos.kinds.kind import CONSTANT, GATE, LINEAR, Bend, Kind, Known
from torchbcos.kinds.named import Naming
from torchbcos.kinds.operation import Operation, asks_in_place, spelled
from torchbcos.kinds.place import place_here, placed

if TYPE_CHECKING:
    from torchbcos.kinds.watch import Watch

__all__ = ["Call", "Outcome", "Rule", "tensors_in", "written"]

Outcome = tuple[Any, Known]
_STATISTICS = ("batch_norm", "instance_norm")  # they update running ones
Rule = Callable[["Call"], Outcome]
_SIGNALS = ("input", "self", "x", "tensors", "query")  # what torch calls the first argument
# what torch's own functions take as well, as numpy has it
_NUMPY = {"x": "input", "a": "input", "x1": "input", "x2": "other", "axis": "dim", "keepdims": "keepdim"}
_BUILTIN = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


def tensors_in(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Every tensor among the arguments of a call, also in lists, tuples, dictionaries and slices."""
    found: list[Tensor] = []
    for a in args:
        if isinstance(a, Tensor):
            found.append(a)
        elif isinstance(a, (list, tuple)):
            found += tensors_in(a, {})
        elif isinstance(a, dict):
            found += tensors_in(a.values(), {})
        elif isinstance(a, slice):
            found += tensors_in((a.start, a.stop, a.step), {})
    if kwargs:
        found += tensors_in(kwargs.values(), {})
    return found


def written(func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call writes into."""
    targets = [kwargs["out"]] if kwargs.get("out") is not None else []
    if operation.inplace or asks_in_place(func, args, kwargs):
        targets.append(args[0] if args else kwargs.get(_first_name(kwargs)))
    elif (schema := getattr(func, "_schema", None)) is not None:  # an operation of torch.ops says so itself
        targets += [a for a, said in zip(args, schema.arguments, strict=False) if said.is_write]
    elif operation.name in _STATISTICS and (len(args) < 6 or args[5] is not False):  # in eval mode they are only read
        targets += [a for a in (*args[1:5], kwargs.get("running_mean"), kwargs.get("running_var")) if a is not None]
    return tensors_in(targets, {})


def _first_name(kwargs: Mapping[str, Any]) -> str:
    """The name under which the first argument was given: keywords have no order."""
    return next((name for name in (*_SIGNALS, "a", "x1") if name in kwargs), next(iter(kwargs), ""))


class Call:
    """What a rule is given.

    Attributes:
        name: of the operation, as the table has it.
        args, kwargs: of the call.
        inplace: whether it writes into its first argument.
        apart: results of another kind than the rest, by `id`.
    """

    def __init__(
        self, watch: Watch, func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ):
        if kwargs and isinstance(func, _BUILTIN):
            kwargs = {_NUMPY.get(key, key): value for key, value in kwargs.items()}
        self.watch, self.func, self.args, self.kwargs = watch, func, args, kwargs
        self.name = operation.name or spelled(func)
        self.inplace = operation.inplace or asks_in_place(func, args, kwargs)
        self.apart: dict[int, Known] = {}

    @property
    def naming(self) -> Naming:
        """How constants get their names."""
        return Naming(self.watch)

    # -- what came in --------------------------------------------------------------------------------------------------

    def argument(self, place: int, *names: str, default: Any = None) -> Any:
        """An argument, given by its place or by one of its names."""
        if place < len(self.args):
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)

    @property
    def signal(self) -> Any:
        """The first argument, by whatever name."""
        return self.argument(0, *_SIGNALS)

    def known(self, value: Any) -> Known:
        """What is known of an argument; numbers are constants."""
        return self.watch.known(value) if isinstance(value, Tensor) else CONSTANT

    def kind(self, value: Any) -> Kind:
        """The kind of an argument."""
        return self.known(value).kind

    def worst(self, values: Iterable[Any]) -> Known:
        """The bent one of several values where there is one, else a gate, else a linear one, else a constant."""
        order = (Kind.BENT, Kind.GATE, Kind.LINEAR, Kind.CONSTANT)
        return min((self.known(v) for v in values), key=lambda known: order.index(known.kind), default=CONSTANT)

    # -- what can be done ----------------------------------------------------------------------------------------------

    def held(self, value: Any) -> Any:
        """A value as a factor, constant for the derivative that an explanation takes; lists and tuples of them, too."""
        if isinstance(value, Tensor):
            return self.watch.plain(value) if self.kind(value) is Kind.CONSTANT else self.watch.held(value)
        if isinstance(value, (list, tuple)) and tensors_in(value, {}):
            return type(value)(self.held(v) for v in value) if type(value) in (list, tuple) else value
        return value

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The operation itself, on these arguments."""
        return self.func(*args, **kwargs)

    def run_with(self, signal: Any) -> Any:
        """The operation on this in the place of its signal; whatever else it got is held."""
        kwargs = {key: self.held(a) for key, a in self.kwargs.items()}
        if self.args:
            return self.func(signal, *(self.held(a) for a in self.args[1:]), **kwargs)
        return self.func(**{**kwargs, _first_name(kwargs): signal})

    def again(self, function: Callable[[], Any]) -> Outcome:
        """What `function` computes by operations that have rules, watched."""
        with self.watch:
            value = function()
        found = tensors_in((value,), {})
        return value, self.worst(found)

    # -- what comes out ------------------------------------------------------------------------------------------------

    def bend(self, why: str = "", help: str = "") -> Known:
        """Bent here, unless something that came in was bent before."""
        for t in tensors_in(self.args, self.kwargs):
            known = self.known(t)
            if known.kind is Kind.BENT:
                return Known(Kind.BENT, bend=known.bend)
        return Known(Kind.BENT, bend=Bend(self.name, place_here(self.watch.state.names), why, help))

    def giver(self) -> str:
        """Which operation gave the value among the arguments that is held: the end of a reason."""
        for t in tensors_in(self.args, self.kwargs):
            known = self.known(t)
            if known.kind is Kind.GATE and known.bend is not None and t.is_floating_point():
                return f"; {placed(known.bend)} gave it"
        return ""

    def bent(self, why: str = "", help: str = "") -> Outcome:
        """The result of the operation, good only as a factor."""
        moving = {self.kind(t) for t in tensors_in(self.args, self.kwargs)}
        held = moving <= {Kind.CONSTANT, Kind.GATE}
        known = GATE if held else self.bend(why, help)
        if self.inplace or "out" in self.kwargs or self.watch.full:
            value = self.func(*self.args, **self.kwargs)
        else:  # no derivative of it is wanted: nothing need be kept for one
            value = self.func(*(self.held(a) for a in self.args), **{key: self.held(a) for key, a in self.kwargs.items()})
        return value, known

    def gate(self) -> Outcome:
        """The result of the operation, held."""
        value, _ = self.bent()
        if self.watch.full and isinstance(value, Tensor):
            value = self.watch.held(value) if not self.inplace else value
        return value, GATE

    def linear(self, value: Any, *, activated: bool = False) -> Outcome:
        """A result that is linear in what it was made of."""
        return value, LINEAR._replace(activated=activated)

    def where(self) -> str:
        """The module that runs here, in words."""
        place = place_here(self.watch.state.names)
        return f"{quote(place.name)} ({place.family})" if place.name else place.family or "the network"
