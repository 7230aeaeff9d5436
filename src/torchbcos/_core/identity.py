"""What two tensors have in common, and what became of one: memory and history, as torch tells of them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["HOOKED", "memory_of", "node_of"]

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
