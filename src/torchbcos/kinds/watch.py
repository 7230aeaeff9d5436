"""The watch: it sees every operation of a forward pass, asks the table what to hold, and remembers the kind of each result."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchbcos._core.atoms import watched
from torchbcos._core.checkpoints import keeping, reentrant
from torchbcos._core.errors import StateError
from torchbcos._core.frozen import FULL, Session, current, hold
from torchbcos._core.identity import HOOKED, is_looking, memory_of, node_of
from torchbcos._core.torch_private import base_of, saved_tensor_hooks, version
from torchbcos.kinds.call import Call, tensors_in, written
from torchbcos.kinds.kind import CONSTANT, GATE, LINEAR, Bend, Kind, Known
from torchbcos.kinds.operation import Operation
from torchbcos.kinds.origin import Origins
from torchbcos.kinds.place import place_here
from torchbcos.kinds.rules.linear import atom, settled
from torchbcos.kinds.rules.reading import unknown
from torchbcos.kinds.sizes import note_sizes
from torchbcos.kinds.table import rule_of

__all__ = ["Watch"]

_UNSEEN = "code that cannot be watched"
_REENTRANT = (
    "This network uses torch.utils.checkpoint with use_reentrant=True, which leaves no gradient to read W from: pass "
    "use_reentrant=False, or switch checkpoints off (timm: model.set_grad_checkpointing(False))."
)
# what gives something outside torch, or another tensor, a way to write into the memory of a constant
_SHOWS = ("numpy", "__array__", "data_ptr", "untyped_storage", "storage", "__dlpack__", "data")


class _Record(NamedTuple):
    """What is known of a tensor, how often it had been edited by then, and what autograd calls the operation that made it."""

    tensor: weakref.ref[Tensor]
    known: Known
    version: int | None
    node: str


class Watch(TorchFunctionMode):
    """While it is entered, every torch function of this thread runs by its rule (arXiv 2306.10898, section 3, for any network).

    Args:
        state: the explanation that runs.
        products: what becomes of a product of two signals: None (bent), "half", "first" or "second".
        prove: keep every constant that is named, so that another input can show that it is one.
        listener: told of every operation on something that moves: the call, the name of its rule, what came out.
    """

    def __init__(
        self, state: Session, *, products: str | None = None, prove: bool = False,
        listener: Callable[[Call, str, Known], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.state, self.products, self.prove, self.listener = state, products, prove, listener
        self.origins = Origins(state)
        self.foreign = False  # whether a rule held something or named a constant
        self._records: dict[int, _Record] = {}
        self._moved: dict[int, tuple[Tensor, Known]] = {}  # memory of constants that something moving was written into
        self._stack: list[ExitStack] = []
        state.closing.append(self.origins.restore)
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
        if operation.name == "look" or current() is not self.state:  # an explanation inside this one has a watch of its own
            return func(*args, **kwargs)
        if rule is atom and self._plainly(args, kwargs):
            value = func(*args)
            for t in tensors_in((value,), {}):
                self.record(t, LINEAR if t.is_floating_point() else GATE)
            return value
        given = tensors_in(args, kwargs)
        if any(t.is_inference() for t in given):
            args, kwargs = self.origins.usable(tuple(args)), self.origins.usable(kwargs)
            given = tensors_in(args, kwargs)
        targets = written(func, operation, tuple(args), kwargs)
        for target in targets:
            self.origins.keep(target)
        with keeping():
            if all(self.known(t).kind is Kind.CONSTANT for t in given):
                return self._constant(operation, func, args, kwargs, given)
            if reentrant():
                raise StateError(_REENTRANT)
            call = Call(self, func, operation, tuple(args), kwargs)
            before = [self.known(t) for t in targets]
            value, known = rule(call)
            if self.origins.read is None:
                note_sizes(call, value, given, known=rule is not unknown)
        self._remember(call, value, known, list(zip(targets, before, strict=True)))
        if self.listener is not None:
            self.listener(call, rule.__name__, next((self.known(t) for t in tensors_in((value,), {})), known))
        return value

    def _plainly(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether one of our layers gets a signal and nothing else, as nearly always: then there is nothing to ask."""
        if len(args) != 2 or kwargs or not isinstance(args[0], nn.Module) or self.listener is not None:
            return False
        x = args[1]
        if not isinstance(x, Tensor) or x.is_inference() or not torch.is_grad_enabled() or saved_tensor_hooks():
            return False
        return self.known(x).kind is Kind.LINEAR

    def _constant(
        self, operation: Operation, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], given: list[Tensor]
    ) -> Any:
        """An operation on things that do not move."""
        if operation.name == "add" and args and self.origins.counts_batches(args[0]):
            return args[0]  # a batch norm that trains counts its batches; an explanation is none
        sure = self.origins.read is None and all(self.origins.is_known(t) for t in given)
        if operation.name in _SHOWS and not is_looking():
            self.origins.shown(given)
        learned = [t for t in given if t.requires_grad]
        if self.state.detach and learned and all(self.origins.is_own(t) for t in learned):  # not where forward takes gradients
            with torch.no_grad():  # what a network keeps for its next call (a table of positions, say) must not keep a graph
                value = self._bare(func(*args, **kwargs))
        else:
            value = func(*args, **kwargs)
        found = tensors_in((settled(operation.name, value),), {})
        for t in found:
            self.origins.made(t, given)
            if t.requires_grad and not t.is_leaf:
                self.record(t, CONSTANT)
        if sure and not found:  # a list of tensors that was edited
            for t in given:
                self.origins.edited(t)
        return value

    def _bare(self, value: Any) -> Any:
        """Views of parameters that were made without gradients: torch lets them require one all the same."""
        if isinstance(value, Tensor):
            return value.detach() if value.requires_grad and not self.origins.is_own(value) else value
        return type(value)(self._bare(v) for v in value) if type(value) in (list, tuple) else value

    def _remember(self, call: Call, value: Any, known: Known, targets: list[tuple[Tensor, Known]]) -> None:
        """Keep the kind of every tensor that came out."""
        if known.kind is Kind.GATE and known.bend is None:
            first = next((k.bend for t in tensors_in(call.args, call.kwargs) if (k := self.known(t)).bend is not None), None)
            known = known._replace(bend=first or Bend(call.name, place_here(self.state.names)))
        if call.name not in ("batch_norm", "instance_norm"):  # the rule of these updates nothing
            for target, _ in targets:
                self.origins.edited(target)
            for target, before in targets:
                known = self._written(call, target, before, known)
        for t in (value,) if isinstance(value, Tensor) else tensors_in((value,), {}):
            kept = call.apart.get(id(t), known)
            if kept.kind is Kind.CONSTANT and t.requires_grad and not t.is_leaf:
                continue  # its history tells, when it is used
            self.record(t, kept if t.is_floating_point() or t.is_complex() else known if known.kind is Kind.GATE else GATE)

    # -- kinds ---------------------------------------------------------------------------------------------------------

    def known(self, t: Tensor) -> Known:
        """What is known of a tensor."""
        kept = self._records.get(id(t))
        if kept is not None and kept.tensor() is t:
            if kept.known.kind is not Kind.LINEAR or self._untouched(t, kept):
                return kept.known
            self.record(t, self._unseen("an edit", "it was edited by code that cannot be watched"))
            return self._records[id(t)].known
        if self._moved and (moved := self._moved.get(memory_of(t))) is not None:
            return self._following(t, *moved)
        if not t.requires_grad or t.is_leaf:
            return CONSTANT
        known = CONSTANT
        if self.origins.depends_on_input(t):
            made = "" if t.grad_fn is None else t.grad_fn.name().removesuffix("0").removesuffix("Backward")
            known = self._unseen(made or _UNSEEN, _UNSEEN)
        self.record(t, known)
        return known

    def _unseen(self, what: str, why: str) -> Known:
        return Known(Kind.BENT, bend=Bend(what, place_here(self.state.names), why))

    def _untouched(self, t: Tensor, kept: _Record) -> bool:
        """Whether nobody edited a signal, or put another history under it, unseen."""
        if version(t) == kept.version:
            return node_of(t) in (kept.node, HOOKED)
        return self.origins.untouched(t, kept.version)

    def record(self, t: Tensor, known: Known) -> None:
        """Keep the kind of a tensor for as long as it lives."""
        if known.kind is Kind.LINEAR:
            if not t.requires_grad:
                known = GATE  # a linear map whose gradient was cut is a held value
            elif t.is_complex():
                known = Known(Kind.BENT, bend=Bend("complex numbers", place_here(self.state.names)))
        self._records[id(t)] = _Record(weakref.ref(t), known, version(t), node_of(t))

    def _written(self, call: Call, target: Tensor, before: Known, known: Known) -> Known:
        """An operation wrote into a tensor: what shares its memory has changed as well."""
        memory = memory_of(target)
        if known.kind is Kind.LINEAR and not torch.is_grad_enabled():
            known = call.bend("it edits a signal in place without gradients", "write y = … outside of torch.no_grad instead")
        owner = self.origins.owner_of(memory) if before.kind is Kind.CONSTANT else None
        if owner is not None:
            raise StateError(
                f"This network writes what depends on its input into its own {owner!r} ('{call.name}' in {call.where()}): "
                "keep it in a variable of forward instead, and it can be explained."
            )
        self.record(target, known)
        if before.kind is Kind.LINEAR and known.kind is Kind.LINEAR:
            return known
        if memory and (before.kind is Kind.CONSTANT or memory in self._moved):
            self._moved[memory] = target, known
        for key, kept in list(self._records.items()):
            alias = kept.tensor()
            if alias is None:
                del self._records[key]
            elif alias is not target and memory_of(alias) == memory:
                mixed = self._following(alias, target, self._mixed(call, known, kept.known))
                self._records[key] = kept._replace(known=mixed)
        return known

    def _following(self, t: Tensor, target: Tensor, written: Known) -> Known:
        """The kind of what shares memory with a tensor that was written into; autograd must know that it does."""
        if written.kind is Kind.LINEAR and base_of(t) is not base_of(target):
            return GATE
        return written

    def _mixed(self, call: Call, written: Known, other: Known) -> Known:
        """The kind of a tensor a part of which was overwritten."""
        if written.kind is other.kind:
            return other
        if written.kind is Kind.LINEAR and other.kind is Kind.CONSTANT:
            return written._replace(activated=False)
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
