"""The watch: it sees every operation of a forward pass, asks the table what to hold, and remembers the kind of each result."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from torchbcos._core.atoms import watched
from torchbcos._core.errors import StateError
from torchbcos._core.frozen import FULL, Session, hold
from torchbcos.kinds.call import Call, tensors_in
from torchbcos.kinds.kind import CONSTANT, GATE, Bend, Kind, Known
from torchbcos.kinds.origin import Origins
from torchbcos.kinds.place import place_here
from torchbcos.kinds.table import rule_of

__all__ = ["Watch"]

_UNSEEN = "code that cannot be watched"


class Watch(TorchFunctionMode):
    """While it is entered, every torch function of this thread runs by its rule (arXiv 2306.10898, section 3, for any network).

    Args:
        state: the explanation that runs.
        products: what becomes of a product of two signals: None (bent), "half", "first" or "second".
        listener: told of every operation on something that moves: the call, the name of its rule, and what is known of what came out.
    """

    def __init__(
        self, state: Session, *, products: str | None = None, listener: Callable[[Call, str, Known], None] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state, self.products, self.listener = state, products, listener
        self.origins = Origins(state)
        self.folded = False  # whether images were folded into another axis when a constant was named
        self.foreign = False  # whether a rule held something or named a constant
        self._records: dict[int, tuple[weakref.ref[Tensor], Known]] = {}
        self._stack: list[ExitStack] = []
        self.record(state.inputs, Known(Kind.LINEAR))

    # -- the mode ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        stack = ExitStack()
        stack.enter_context(watched())
        super().__enter__()  # type: ignore[no-untyped-call]
        self._stack.append(stack)
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._stack.pop().close()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one function by its rule."""
        kwargs = kwargs or {}
        rule, operation = rule_of(func)
        if operation.name == "look":
            return func(*args, **kwargs)
        given = tensors_in(args, kwargs)
        for t in given:
            if self.known(t).kind is not Kind.CONSTANT:
                break
        else:
            return self._constant(operation.name, func, args, kwargs, given)
        call = Call(self, func, operation, tuple(args), kwargs)
        value, known = rule(call)
        self._remember(call, value, known)
        if self.listener is not None:
            self.listener(call, rule.__name__, next((self.known(t) for t in tensors_in((value,), {})), known))
        return value

    def _constant(
        self, name: str, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], given: list[Tensor]
    ) -> Any:  # fmt: skip
        """An operation on things that do not move."""
        if name == "add" and args and self.origins.counts_batches(args[0]):
            return args[0]  # a batch norm that trains counts its batches; an explanation is none
        value = func(*args, **kwargs)
        for t in tensors_in((value,), {}):
            self.origins.made(t, given)
            if t.requires_grad and not t.is_leaf:
                self.record(t, CONSTANT)
        return value

    def _remember(self, call: Call, value: Any, known: Known) -> None:
        """Keep the kind of every tensor that came out."""
        if call.inplace:
            self._written(call, known)
        for t in (value,) if isinstance(value, Tensor) else tensors_in((value,), {}):
            kept = call.apart.get(id(t), known)
            self.record(t, kept if t.is_floating_point() or t.is_complex() else GATE)

    # -- kinds ---------------------------------------------------------------------------------------------------------

    def known(self, t: Tensor) -> Known:
        """What is known of a tensor."""
        kept = self._records.get(id(t))
        if kept is not None and kept[0]() is t:
            return kept[1]
        if not t.requires_grad or t.is_leaf:
            return CONSTANT
        known = CONSTANT
        if self.origins.depends_on_input(t):
            made = "" if t.grad_fn is None else t.grad_fn.name().removesuffix("Backward").removesuffix("Backward0")
            known = Known(Kind.BENT, bend=Bend(made or _UNSEEN, place_here(self.state.names), _UNSEEN))
        self.record(t, known)
        return known

    def record(self, t: Tensor, known: Known) -> None:
        """Keep the kind of a tensor for as long as it lives."""
        if known.kind is Kind.LINEAR:
            if not t.requires_grad:
                known = GATE  # a linear map whose gradient was cut is a held value
            elif t.is_complex():
                known = Known(Kind.BENT, bend=Bend("complex numbers", place_here(self.state.names)))
        self._records[id(t)] = (weakref.ref(t), known)

    def _written(self, call: Call, known: Known) -> None:
        """An operation wrote into its first argument: what shares its memory has changed as well."""
        target: Tensor = call.args[0]
        before = self.known(target)
        if known.kind is Kind.LINEAR and not torch.is_grad_enabled():
            known = call.bend("it edits a signal in place without gradients", "write y = … outside of torch.no_grad instead")
        if self.origins.is_state(target):
            raise StateError(
                f"This network writes what depends on its input into its own {self.origins.name_of(target)!r} "
                f"('{call.name}' in {call.where()}): keep it in a variable of forward instead, and it can be explained."
            )
        self._records[id(target)] = (weakref.ref(target), known)
        if before.kind is Kind.LINEAR and known.kind is Kind.LINEAR:
            return
        memory = target.untyped_storage().data_ptr()
        for key, (reference, other) in list(self._records.items()):
            alias = reference()
            if alias is None:
                del self._records[key]
            elif alias is not target and alias.untyped_storage().data_ptr() == memory:
                self._records[key] = (reference, self._mixed(call, known, other))

    def _mixed(self, call: Call, written: Known, other: Known) -> Known:
        """The kind of a tensor a part of which was overwritten."""
        if written.kind is other.kind:
            return other
        if written.kind is Kind.LINEAR and other.kind is Kind.CONSTANT:
            return written
        return call.bend("it edits in place what shares its memory with a signal", "work on a copy: x = x.clone()")

    def held(self, t: Tensor) -> Tensor:
        """A tensor as a factor: a constant of the first derivative."""
        return hold(t) if t.requires_grad else t

    def plain(self, t: Tensor) -> Tensor:
        """A constant as an operation should use it: without its graph where no gradient of it is wanted."""
        return t.detach() if self.state.detach and t.requires_grad else t

    @property
    def full(self) -> bool:
        """Whether held factors are live in later derivatives."""
        return self.state.mode == FULL

    # -- at the end ----------------------------------------------------------------------------------------------------

    def require_linear(self, t: Tensor, what: str) -> None:
        """Raise StateError unless `t` is a linear map of the input.

        Args:
            t: what is to be explained.
            what: what a message calls it.
        """
        known = self.known(t)
        if known.kind is not Kind.LINEAR:
            raise StateError(self.origins.refusal(known, what))
