"""What tells the weights of a network from all others, and whether they are still what they were."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.identity import looking, memory_of
from torchbcos._core.torch_private import version

__all__ = ["fingerprint", "hash_of", "stamp_of"]


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of names, dtypes, shapes and numbers of all parameters and buffers that are saved.

    >>> a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> _ = b.load_state_dict(a.state_dict())
    >>> fingerprint(a) == fingerprint(b), fingerprint(a) == fingerprint(a.double())
    (True, False)
    """
    found = hashlib.sha256()
    state = model.state_dict()
    for name in sorted(state):
        if isinstance(state[name], Tensor):
            found.update(f"{name}\0".encode())
            _feed(found, state[name])
    return found.hexdigest()


def hash_of(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and numbers.

    >>> hash_of(torch.ones(2)) == hash_of(torch.ones(4)[::2]), hash_of(torch.ones(2)) == hash_of(torch.ones(1, 2))
    (True, False)
    """
    found = hashlib.sha256()
    _feed(found, tensor)
    return found.hexdigest()


def _feed(found: Any, tensor: Tensor) -> None:
    found.update(f"{tensor.dtype} {tuple(tensor.shape)}\0".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    found.update(flat.view(torch.uint8).numpy().data)


def stamp_of(model: nn.Module) -> tuple[Any, ...]:
    """Changes when a parameter or buffer is exchanged or written to, but not through `.data`; its cost knows no sizes."""
    with looking():  # an explanation may run inside another's
        return tuple((memory_of(t), version(t)) for t in (*model.parameters(), *model.buffers()))
