"""torch.utils.checkpoint around a network: it runs parts of it again in the backward pass, where nobody watches.

While an explanation runs, nothing is forgotten, so nothing is run again: the same W, for the memory that the checkpoints
would have saved. The reentrant variant runs its part without gradients at first, and leaves nothing to read W from.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.stack import in_checkpoint
from torchbcos._core.torch_private import checkpointed, saved_tensor_hooks, version

__all__ = ["keeping", "reentrant"]

_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()


def keeping() -> AbstractContextManager[Any]:
    """Inside this block autograd keeps what it saves, also where a checkpoint around it would forget it."""
    if saved_tensor_hooks() and checkpointed():
        return torch.autograd.graph.saved_tensors_hooks(_keep, _kept)
    return _NOTHING


def reentrant() -> bool:
    """True where torch.utils.checkpoint with use_reentrant=True runs the caller: without gradients now, and again later."""
    return not torch.is_grad_enabled() and in_checkpoint("forward")


def _keep(t: Tensor) -> tuple[Tensor, int | None]:
    return t, version(t)


def _kept(kept: tuple[Tensor, int | None]) -> Tensor:
    t, before = kept
    if version(t) != before:  # autograd asks where no hooks stand, and says it so
        raise RuntimeError("A tensor needed for gradient computation has been modified by an inplace operation.")
    return t
