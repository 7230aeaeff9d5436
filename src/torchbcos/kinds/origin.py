"""Where tensors come from: which belong to the network, which were made here, which depend on the input unseen."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torchbcos._core.errors import shorten
from torchbcos._core.frozen import Session
from torchbcos._core.names import quote
from torchbcos.kinds.kind import Bend, Kind, Known, Place

__all__ = ["Origins"]


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
        self._names: dict[int, str] | None = None
        self._made: dict[int, tuple[weakref.ref[Tensor], str | None]] = {}

    def name_of(self, t: Tensor) -> str | None:
        """The dotted name of a parameter or buffer of the network, or of the only one that a tensor was made of."""
        made = self._made.get(id(t))
        if made is not None and made[0]() is t:
            return made[1]
        return self._own_name(t)

    def _own_name(self, t: Tensor) -> str | None:
        if self._names is None:
            model = self.state.model
            found = [*model.named_buffers(), *model.named_parameters()]
            self._names = {id(tensor): name for name, tensor in reversed(found)}
        return self._names.get(id(t))

    def is_state(self, t: Tensor) -> bool:
        """Whether a tensor is a parameter or a buffer of the network."""
        return self._own_name(t) is not None

    def counts_batches(self, t: Any) -> bool:
        """Whether this is the counter of a batch norm."""
        return isinstance(t, Tensor) and (self._own_name(t) or "").rpartition(".")[2] == "num_batches_tracked"

    def made(self, t: Tensor, parts: Sequence[Tensor]) -> None:
        """A tensor was made of constants, seen: it has the name of the only one among them that has one.

        What was made of things of unknown origin, or of numbers once some were read out of a signal, stays unknown.
        """
        if not (all(self.is_known(part) for part in parts) if parts else self.read is None):
            return
        if self._own_name(t) is None:
            names = {self.name_of(part) for part in parts} - {None}
            self._made[id(t)] = (weakref.ref(t), names.pop() if len(names) == 1 else None)

    def is_known(self, t: Tensor) -> bool:
        """Whether it is sure that this constant does not depend on the input."""
        made = self._made.get(id(t))
        return (made is not None and made[0]() is t) or self.is_state(t)

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
            return (
                f"The {what} of this network cannot be explained: they are values that are held, not a linear map of the input "
                "(the result of a softmax, a sigmoid, a comparison or detach). Explain the logits: leave out what follows them, "
                "or name the module that gives them with at=…."
            )
        bend = known.bend or Bend("an operation", Place("", ""))
        tail = (
            bend.help or "torchbcos.kinds.trace(model, x) lists what was met; torchbcos.register_rule gives an operation a rule."
        )
        return shorten(
            f"This network cannot be explained exactly: {_told(bend)}, and the {what} depend on it. {_official(bend)}{tail}", 500
        )

    def _cut(self, what: str) -> str:
        """What to say where the input has no way to the outputs."""
        if self.read is not None:
            return (
                f"The {what} of this network do not depend on its input in a way that torch knows: numbers left torch by "
                f"{_placed(self.read)}. Compute with tensors all the way."
            )
        return (
            f"The model's {what} do not depend on its input, or were computed without gradients: look for torch.no_grad, "
            "detach or numpy in its forward."
        )


def _placed(bend: Bend) -> str:
    """An operation and its place, in words."""
    place = bend.place
    outside = f" in the forward of {place.family}" if place.family else ""
    return f"{bend.operation!r}{f' in {quote(place.name)} ({place.family})' if place.name else outside}"


def _told(bend: Bend) -> str:
    """What an operation does, in words."""
    why = f" ({bend.why})" if bend.why else ""
    return f"{_placed(bend)} is not linear in the input once its factors are held{why}"


def _official(bend: Bend) -> str:
    """A word about layers of the official package."""
    if bend.place.package.partition(".")[0] != "bcos":
        return ""
    return (
        f"{bend.place.family} of the package 'bcos' holds its factors only in an explanation mode of its own: load its "
        "weights into torchbcos.create_model(name, weights=FILE). "
    )
