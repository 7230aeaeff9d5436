"""Targets: what is explained, in any of the forms a caller may write it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import integer

__all__ = ["as_integers", "resolve_targets"]


def resolve_targets(targets: object, outputs: Tensor, *, top_k: int = 1, name: str = "targets", what: str = "classes") -> Tensor:
    """Targets as an (N, K) int64 tensor.

    Args:
        targets: None (the `top_k` highest outputs of each image), one int, N ints or (N, K) ints.
        outputs: (N, classes).
        top_k: how many targets an image has where `targets` is None.
        name, what: for messages.

    Raises:
        InputError: wrong shape, not integers, or out of range.

    >>> resolve_targets(None, torch.tensor([[0.1, 0.9, 0.5]]), top_k=2)
    tensor([[1, 2]])
    """
    n, classes = outputs.shape
    if targets is None:
        count = integer(top_k)
        if count is None or not 1 <= count <= classes:
            raise InputError(f"top_k must be an integer from 1 to {classes}, not {top_k!r}.")
        return outputs.detach().topk(count, dim=1).indices
    given = as_integers(targets, name).to(outputs.device)
    if given.dim() == 0:
        given = given.expand(n, 1)
    elif given.dim() == 1 and len(given) == n:
        given = given.unsqueeze(1)
    elif given.dim() != 2 or len(given) != n or given.shape[1] == 0:
        raise InputError(f"{name} of shape {tuple(given.shape)} do not fit {n} images: give one int, {n} ints, or ({n}, K) ints.")
    if given.numel() and not (int(given.min()) >= 0 and int(given.max()) < classes):
        wrong = given[(given < 0) | (given >= classes)][0].item()
        raise InputError(f"{name} must be from 0 to {classes - 1} ({classes} {what}), not {wrong}.")
    # autograd cannot keep what was made in inference mode, by argmax of a prediction, say
    return given.clone() if given.is_inference() else given.contiguous()


def _plain(targets: object) -> object:
    """A single number of numpy as an array, which every torch takes."""
    return np.asarray(targets) if isinstance(targets, np.generic) else targets


def as_integers(targets: object, name: str = "targets") -> Tensor:
    """Whatever form targets have as an int64 tensor of the same shape.

    Raises:
        InputError: something else than integers is among them; truth values are none.

    >>> as_integers([np.int64(1), 2])
    tensor([1, 2])
    """
    try:
        given = targets if isinstance(targets, Tensor) else torch.as_tensor(_plain(targets))
        if given.is_meta:
            raise TypeError("a tensor without numbers")
        if given.layout != torch.strided or given.dtype == torch.uint64:
            given = given.to_dense().to(torch.int64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} must be an int, N ints or (N, K) ints, not {_shown(targets)}.") from error
    if not given.numel():  # an empty list has torch's favourite dtype
        return given.to(torch.int64)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool or _holds_truth(targets):
        found = torch.bool if _holds_truth(targets) else given.dtype
        raise InputError(f"{name} must be integers, not {found}.")
    return given.to(torch.int64)


def _holds_truth(targets: object) -> bool:
    """Whether a truth value stands in a list, where torch would read True as 1."""
    if isinstance(targets, (bool, np.bool_)):
        return True
    return isinstance(targets, Sequence) and not isinstance(targets, str) and any(_holds_truth(one) for one in targets)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
