"""Where tensors come from: which belong to the network, which were made here, which depend on the input unseen."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchbcos._core.errors import shorten
from torchbcos._core.frozen import Session
from torchbcos._core.identity import memory_of
from torchbcos._core.names import quote
from torchbcos._core.torch_private import version
from torchbcos.kinds.kind import Bend, Kind, Known, Place
from torchbcos.kinds.place import placed

__all__ = ["Origins"]


class _Made(NamedTuple):
    tensor: weakref.ref[Tensor]
    version: int | None
    name: str | None


class Origins:
    """What one explanation knows about tensors that no rule made.

    Attributes:
        read: where numbers of a moving tensor were read out of torch, if they were.
        unproven: constants that were named though nobody saw where they came from: another input must give the same ones.
    """

    def __init__(self, state: Session) -> None:
        self.state = state
        self.read: Bend | None = None
        self.unproven: list[tuple[str, Any]] = []
        self._slots = list(state.model.named_buffers())
        owned = [*self._slots, *state.model.named_parameters()]
        self._state = {id(t): (name, t, version(t)) for name, t in reversed(owned)}
        self._doubts: list[tuple[str, Any]] | None = None  # what was edited unseen, once the network is as it was
        self._made: dict[int, _Made] = {}
        self._edits: dict[int, int | None] = {}  # by memory: the version that the last edit which was seen left
        self._shown: set[int] = set()  # memory that something outside torch may write into
        self._owners: dict[int, list[tuple[str, Tensor]]] | None = None  # by memory
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # of tensors made in inference mode, by `id`
        self._kept: dict[int, tuple[Tensor, Tensor, int | None]] = {}  # of the network's own tensors, as they were

    def name_of(self, t: Tensor) -> str | None:
        """The dotted name of a parameter or buffer of the network, or of the only one that a tensor was made of."""
        kept, made = self._state.get(id(t)), self._made.get(id(t))
        if kept is not None:
            return kept[0]
        return made.name if made is not None and made.tensor() is t else None

    def is_own(self, t: Tensor) -> bool:
        """Whether this is a parameter or a buffer of the network, or a view of one."""
        return id(t) in self._state or self.owner_of(memory_of(t)) is not None

    def owner_of(self, memory: int) -> str | None:
        """The name of the parameter or buffer that this memory belongs to."""
        owned = self._owned_at(memory)
        return owned[0][0] if owned else None

    def _owned_at(self, memory: int) -> list[tuple[str, Tensor]]:
        """The network's own tensors that lie there, with their names."""
        if self._owners is None:
            self._owners = {}
            for name, t, _ in self._state.values():
                self._owners.setdefault(memory_of(t), []).append((name, t))
        return self._owners.get(memory, []) if memory else []

    def keep(self, t: Tensor) -> None:
        """Something is about to write into a tensor: if it is the network's own, `restore` brings back what it was."""
        for _, own in self._owned_at(memory_of(t)):
            if id(own) not in self._kept:
                self._kept[id(own)] = own, own.detach().clone(), version(own)

    def restore(self) -> None:
        """The network's own tensors are what they were: an explanation counts, averages and learns nothing."""
        self._doubts = self._edited_unseen()
        with torch.no_grad():
            for own, before, since in self._kept.values():
                if version(own) == since is not None:
                    continue
                if not own.is_leaf:  # a signal was written into it
                    own.detach_()
                own.copy_(before)
                self.edited(own)
        self._kept.clear()
        now = dict(self.state.model.named_buffers())
        for name, t in self._slots:
            if now.get(name) is not t:
                place, _, last = name.rpartition(".")
                setattr(self.state.model.get_submodule(place), last, t)

    def counts_batches(self, t: Any) -> bool:
        """Whether this is the counter of a batch norm."""
        return isinstance(t, Tensor) and (self.name_of(t) or "").rpartition(".")[2] == "num_batches_tracked"

    def made(self, t: Tensor, parts: Sequence[Tensor]) -> None:
        """A tensor came out of an operation on constants: it has the name of the only one among them that has one.

        What was made of things of unknown origin, or of numbers once some were read out of a signal, stays unknown.
        """
        known = self.read is None and all(self.is_known(part) for part in parts)
        names = {self.name_of(part) for part in parts} - {None}  # of `t` itself as well, where an operation gives what it took
        self._made.pop(id(t), None)
        if not known:
            return
        self._made[id(t)] = _Made(weakref.ref(t), version(t), names.pop() if len(names) == 1 else None)
        if version(t):
            self.edited(t)

    def usable(self, value: Any) -> Any:
        """The same arguments with ordinary tensors for those made in inference mode, which autograd cannot record."""
        if isinstance(value, Tensor) and value.is_inference():
            copy = self._copies.setdefault(id(value), (value, value.clone().requires_grad_(value.requires_grad)))[1]
            self.made(copy, [value])
            return copy
        if type(value) in (list, tuple):
            return type(value)(self.usable(v) for v in value)
        return {key: self.usable(v) for key, v in value.items()} if type(value) is dict else value

    def edited(self, t: Tensor) -> None:
        """Whoever watches saw all edits of this memory up to here."""
        self._edits[memory_of(t)] = version(t)

    def shown(self, tensors: Iterable[Tensor]) -> None:
        """The memory of these was handed to something outside torch."""
        self._shown.update(memory_of(t) for t in tensors)

    def untouched(self, t: Tensor, since: int | None) -> bool:
        """Whether nothing that was not seen has edited a tensor since it had this version."""
        now = version(t)
        return now == since or (bool(self._edits) and now == self._edits.get(memory_of(t), -1))

    def is_known(self, t: Tensor) -> bool:
        """Whether it is sure that this constant does not depend on the input."""
        if self._shown and memory_of(t) in self._shown:
            return False
        owned, made = self._state.get(id(t)), self._made.get(id(t))
        if owned is not None:
            return self.untouched(t, owned[2])
        return made is not None and made.tensor() is t and self.untouched(t, made.version)

    def doubtful(self) -> list[tuple[str, Any]]:
        """Constants that another input must give, too: those named unseen, and what in the network was edited unseen."""
        return self.unproven + (self._edited_unseen() if self._doubts is None else self._doubts)

    def _edited_unseen(self) -> list[tuple[str, Any]]:
        return [
            (name, t.detach().clone()) for name, t, _ in self._state.values() if t.is_floating_point() and not self.is_known(t)
        ]

    def depends_on_input(self, t: Tensor) -> bool:
        """Whether the explained input is in the history of a tensor."""
        accumulates, seen, todo = self._sink(), set(), [t.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            if node is accumulates:
                return True
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
        return False

    def _sink(self) -> object:
        """Where the gradient of the input arrives."""
        inputs = self.state.inputs
        return inputs.view_as(inputs).grad_fn.next_functions[0][0] if inputs.is_leaf else inputs.grad_fn  # type: ignore[union-attr]

    def refusal(self, known: Known, what: str) -> str:
        """Why a tensor of this kind is not explained, in one sentence."""
        if known.kind is Kind.CONSTANT:
            return self._cut(what)
        if known.kind is Kind.GATE:
            made = known.bend
            where = "the result of a softmax, a sigmoid, a comparison or detach" if made is None else f"{placed(made)} gave them"
            return (
                f"The {what} of this network cannot be explained: they are values that are held, not a linear map of the input "
                f"({where}). Explain the logits: leave out what follows them, or name the module that gives them with at=…; no "
                "torch.no_grad or detach may stand around what gives them."
            )
        bend = known.bend or Bend("an operation", Place("", ""))
        tail = (
            bend.help or "torchbcos.kinds.trace(model, x) lists what was met; torchbcos.register_rule gives an operation a rule."
        )
        return shorten(
            f"This network cannot be explained exactly: {_told(bend)}, and the {what} depend on it. {_official(bend)}{tail}", 500
        )

    def moving(self, name: str) -> str:
        """Why something that was added under this name is no constant."""
        how = "numbers that leave torch and come back, edits or code that cannot be watched"
        how = how if self.read is None else f"numbers left torch in {placed(self.read)}"
        return (
            f"What this network adds as {quote(name)} depends on its input in a way that torch does not see ({how}), so it is no "
            "constant: compute it with tensors of torch, in variables of forward."
        )

    def _cut(self, what: str) -> str:
        """What to say where the input has no way to the outputs."""
        if self.read is not None:
            return (
                f"The {what} of this network do not depend on its input in a way that torch knows: numbers left torch by "
                f"{placed(self.read)}. Compute with tensors all the way."
            )
        return (
            f"The model's {what} do not depend on its input, or were computed without gradients: look for torch.no_grad, "
            "detach or numpy in its forward."
        )


def _told(bend: Bend) -> str:
    """What an operation does, in words."""
    why = f" ({bend.why})" if bend.why else ""
    return f"{placed(bend)} is not linear in the input once its factors are held{why}"


def _official(bend: Bend) -> str:
    """A word about layers of the official package, and about recorded graphs."""
    if bend.place.family in ("GraphModule", "InterpreterModule"):
        return "This is a recorded graph (torch.export, torch.fx): explain the network it was made from. "
    if bend.place.package.partition(".")[0] != "bcos":
        return ""
    return (
        f"{bend.place.family} of the package 'bcos' holds its factors only in an explanation mode of its own: load its "
        "weights into torchbcos.create_model(name, weights=FILE). "
    )
