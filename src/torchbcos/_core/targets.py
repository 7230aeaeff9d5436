"""Targets: what is explained, in any of the forms a caller may write it."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.errors import InputError

__all__ = ["resolve_targets"]


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
        if not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= classes:
            raise InputError(f"top_k must be an integer from 1 to {classes}, not {top_k!r}.")
        return outputs.detach().topk(top_k, dim=1).indices
    try:
        given = torch.as_tensor(targets, device=outputs.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be an int, N ints or (N, K) ints, not {targets!r}.") from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"{name} must be integers, not {given.dtype}.")
    given = given.to(torch.int64)
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
