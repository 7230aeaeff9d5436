"""What an explanation meets in a network: every operation on something that moves, with its module, kind and rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from torchbcos._core import torch_private
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, shorten
from torchbcos._core.frozen import Session
from torchbcos._core.letters import printable
from torchbcos.kinds.call import Call, tensors_in
from torchbcos.kinds.kind import Bend, Kind, Known, Place
from torchbcos.kinds.named import OneByOne
from torchbcos.kinds.place import place_here
from torchbcos.kinds.watch import Watch

__all__ = ["Met", "Trace", "trace"]

_HEAD = ("operation", "module", "class", "kind", "rule", "count")
_HERE = "<- here"
_NO_RULE = "no rule"


@dataclasses.dataclass(frozen=True)
class Met:
    """An operation, as often as it gave the same kind in the same module.

    Attributes:
        operation: what it is called in the table of rules.
        module: dotted name of the innermost module around it; "" in the network's own forward.
        module_class: the class of that module.
        kind: of what came out.
        rule: that said so: the name of its function in `torchbcos.kinds.rules`; "no rule" where there is none.
        count: how often.
        here: whether this is what bent the outputs.
    """

    operation: str
    module: str
    module_class: str
    kind: Kind
    rule: str
    count: int
    here: bool = False


class Trace(Sequence[Met]):
    """What was met, in order of first occurrence; `print` shows it as a table.

    Attributes:
        explained: whether the outputs are a linear map of the input, once factors are held, plus named constants.
        verdict: that in a sentence: what is explained, or what is in the way.
        constants: names of the constants that were met.
    """

    def __init__(self, rows: Sequence[Met], explained: bool, verdict: str, constants: Sequence[str]) -> None:
        self._rows, self.explained, self.verdict, self.constants = tuple(rows), explained, verdict, tuple(constants)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Met: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Met, ...]: ...
    def __getitem__(self, index: int | slice) -> Met | tuple[Met, ...]:
        return self._rows[index]

    def __str__(self) -> str:
        """The table and the verdict, as plain text."""
        rows = [(*_HEAD, ""), *(_shown(row) for row in self._rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines = ["  ".join([*map(str.ljust, row[:-2], widths), row[-2].rjust(widths[-1]), row[-1]]).rstrip() for row in rows]
        return "\n".join([*lines, self.verdict])

    __repr__ = __str__

    def __rich__(self) -> Group:
        """The same for a terminal, as `rich` draws it."""
        table = Table(box=None, pad_edge=False)
        for name in _HEAD:
            table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
        table.add_column("")
        for row in self._rows:
            colour = "red" if row.here else "yellow" if row.kind is Kind.BENT else ""
            table.add_row(*(Text(word) for word in _shown(row)), style=colour)
        return Group(table, Text(self.verdict, style="" if self.explained else "red"))


def trace(model: nn.Module, x: Tensor, *, products: str | None = None) -> Trace:
    """List the operations that an explanation of a network meets: what is linear, what is held, and where it bends.

    It is the first thing to look at where `torchbcos.explain` refuses a network, and never refuses one itself.

    Args:
        model: any network; its mode, gradients and buffers are as in an explanation.
        x: (N, C, *S), floating point, as the network takes it.
        products: as in `torchbcos.explain`.

    Returns:
        A sequence of `Met`, which prints as a table. A factor may be bent: it is held. What must not be is marked "<- here".

    Raises:
        InputError: `products` is none of the four.
        ArgumentTypeError: `model` is no module, or `x` no tensor.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.SiLU(), nn.Softmax(-1))
    >>> print(trace(net, torch.rand(1, 3)))  # doctest: +ELLIPSIS
    operation  module  class    kind    rule           count
    linear     0       Linear   linear  map_with_bias      1
    silu       1       SiLU     linear  activation         1
    softmax    2       Softmax  gate    held               1  <- here
    Not explained. The outputs of this network cannot be explained: they are values that are held, ...
    """
    if not isinstance(model, nn.Module) or not isinstance(x, Tensor):
        raise ArgumentTypeError(
            f"trace needs a torch.nn.Module and a tensor, not {type(model).__name__} and {type(x).__name__}: trace(model, x)."
        )
    if products not in (None, "half", "first", "second"):
        raise InputError(f"products must be None, 'half', 'first' or 'second', not {products!r}.")
    try:
        return _traced(model, x, products)
    except OneByOne:  # as `explain` does
        return _traced(model, x[:1], products)


def _traced(model: nn.Module, x: Tensor, products: str | None) -> Trace:
    """One forward pass, watched and listened to."""
    met = _Listening()
    state: Session
    with torch.random.fork_rng(devices=[]), Session.of(model, x) as state:
        met.names = state.names
        try:
            watch = Watch(state, products=products, listener=met)
            before = torch_private.version(state.inputs)
            with watch:
                outputs = torch_private.eager(model)(state.inputs)
            edited = torch_private.version(state.inputs) != before
        except OneByOne:
            if len(x) > 1:
                raise
            return met.trace(False, "Images cannot be told apart where a constant is added.", state)
        except BcosError as error:
            return met.trace(False, str(error), state)
        except Exception as error:  # of somebody's own forward: of any class
            what = shorten(" ".join(str(error).split()), 250)
            return met.trace(False, f"The forward pass ended here with {type(error).__name__}: {what}", state)
        if edited:
            return met.trace(False, "The network edits its input in place: write x = x.clone() first.", state)
        hidden = _hidden(model)
        entries = _entries(outputs)
        refused = {name: _why(watch, t, name) for name, t in entries.items() if watch.known(t).kind is not Kind.LINEAR}
        if not hidden and entries and not refused:
            return met.trace(True, _praise(entries, watch), state)
        for name in refused:
            met.bent(watch.known(entries[name]))
        why = [hidden] if hidden else list(refused.values()) or [f"It gave {type(outputs).__name__}, and no tensor."]
        linear = [name for name in entries if name not in refused]
        if linear and not hidden:
            why.append(f"A linear map of the input: the {', '.join(linear)}.")
        return met.trace(False, "\n".join(why), state)


class _Listening:
    """Counts what the watch tells."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.counts: dict[Met, int] = {}
        self.last: Met | None = None
        self.here: set[Met] = set()

    def __call__(self, call: Call, rule: str, known: Known) -> None:
        if not call.name:  # a helper of our own layers, not an operation of the network
            return
        place = place_here(self.names)
        name = _NO_RULE if rule == "unknown" else rule
        self.last = Met(call.name, place.name, place.family, known.kind, name, 0)
        self.counts[self.last] = self.counts.get(self.last, 0) + 1

    def bent(self, known: Known) -> None:
        """Mark what bent an output, or, where it is no bent one, what gave it."""
        bend: Bend = known.bend or Bend("", Place("", ""))
        for row in self.counts:
            if row.kind is Kind.BENT and (row.operation, row.module) == (bend.operation, bend.place.name):
                self.here.add(row)
        if known.kind is Kind.GATE and self.last is not None:
            self.here.add(self.last)

    def trace(self, explained: bool, verdict: str, state: Session) -> Trace:
        """What was heard."""
        rows = [dataclasses.replace(row, count=count, here=row in self.here) for row, count in self.counts.items()]
        return Trace(rows, explained, _printable_lines(("" if explained else "Not explained. ") + verdict), list(state.probes))


def _printable_lines(text: str) -> str:
    """As `printable`, line by line."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _why(watch: Watch, t: Tensor, what: str) -> str:
    """What `explain` says of an output, but for its pointer to this table."""
    return watch.origins.refusal(watch.known(t), what).replace("torchbcos.kinds.trace(model, x) lists what was met; ", "")


def _entries(outputs: Any) -> dict[str, Tensor]:
    """The floating-point tensors among what a network gave, by what a message calls them."""
    if isinstance(outputs, Tensor):
        return {"outputs": outputs}
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, Mapping):
        outputs = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    pairs = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs) if isinstance(outputs, (tuple, list)) else ()
    found = {f"output {key!r}": tensors_in((value,), {}) for key, value in pairs}
    return {name: given[0] for name, given in found.items() if given and given[0].is_floating_point()}


def _hidden(model: nn.Module) -> str:
    """Parts of a network that nobody can watch, in words."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return f"The module {name or 'itself'!r} is scripted or traced code, which nobody can watch."
        if name and torch_private.compiled(module):
            return f"The module {name!r} is compiled on its own, so nobody can watch it: trace the network before compiling."
    return ""


def _praise(entries: dict[str, Tensor], watch: Watch) -> str:
    """What is explained, and on what condition."""
    count = len(watch.state.probes)
    constants = "no constant" if not count else "1 named constant" if count == 1 else f"{count} named constants"
    what = f"Explained: the {', '.join(entries)} are a linear map of the input, once factors are held, and {constants}."
    unproven = sorted({name for name, _ in watch.origins.doubtful()})
    if unproven:
        what += f" On condition that {', '.join(map(repr, unproven[:3]))} is the same for another input, which explain looks at."
    if all(t.dim() != 2 for t in entries.values()):
        what += " explain takes (N, classes): put a head behind it, or name a module inside with at=…."
    return what


def _shown(row: Met) -> tuple[str, ...]:
    """A row in words, one each column."""
    words = (row.operation, row.module or "-", row.module_class or "-", row.kind.value, row.rule, str(row.count))
    return (*(shorten(printable(word), 60) for word in words), _HERE if row.here else "")
