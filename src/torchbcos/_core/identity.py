"""What two tensors have in common, and what became of one: memory and history, as torch tells of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from torch import Tensor

__all__ = ["HOOKED", "is_looking", "looking", "memory_of", "node_of"]

_looking: ContextVar[bool] = ContextVar("looking", default=False)

# what autograd calls the identity that torch puts around a module with hooks on its backward pass
HOOKED = "BackwardHookFunctionBackward"


def node_of(tensor: Tensor) -> str:
    """What autograd calls the operation that made `tensor`; empty for leaves."""
    return "" if tensor.grad_fn is None else str(tensor.grad_fn.name())


def memory_of(tensor: Tensor) -> int:
    """Where the numbers of `tensor` lie: the same for all that share them; 0 where it has no memory of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse, or inside a transform
        return 0


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """Inside this block, and in this thread, memory is looked at and handed to nobody: whoever watches need not doubt it."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def is_looking() -> bool:
    """Whether this is inside `looking`."""
    return _looking.get()
