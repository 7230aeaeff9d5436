"""Norm statistics, recomputed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute the running statistics of all batch norms over encoded batches, in place.

    The statistics become the plain average over the batches. Only norms run in training mode
    (no drop-out, no stochastic depth); modes and momenta are restored. After weights were
    averaged, or changed quickly, running statistics lag behind: recalibrate before judging.

    Args:
        model: any network of torchbcos norms.
        batches: encoded batches (N, C, *S); each is used once.

    Raises:
        InputError: there are no batches. The statistics are then as before.

    >>> model = bnn.BatchNorm(1, centered=False)
    >>> recalibrate(model, [torch.tensor([[[0.0, 2.0]]])])
    >>> float(model.running_var)
    1.0
    """
    norms = [m for m in model.modules() if isinstance(m, bnn.BatchNorm)]
    before = [(m.training, m.momentum, {k: v.clone() for k, v in m.named_buffers(recurse=False)}) for m in norms]
    modes = [(m, m.training) for m in model.modules()]
    used = 0
    done = False
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.training = True
        with torch.no_grad():
            for batch in batches:
                model(batch)
                used += 1
        done = used > 0
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, (_, momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if not done:
                for name, value in buffers.items():
                    getattr(norm, name).copy_(value)
    if not used:
        raise InputError("recalibrate needs at least one batch of encoded pictures.")
