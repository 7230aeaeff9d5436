"""Norm statistics, recomputed; filters, brought back to the length at which they learn."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError

__all__ = ["NORMS", "recalibrate", "refresh_filters"]

NORMS = (bnn.BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute the running statistics of all batch norms over encoded batches, in place.

    The statistics become the plain average over the batches. Only norms run in training mode
    (no drop-out, no stochastic depth); modes and momenta are restored. After weights were
    averaged, or changed quickly, running statistics lag behind: recalibrate before judging.

    Args:
        model: any network; batch norms of torch's own are taken, too.
        batches: encoded batches (N, C, *S); each is used once.

    Raises:
        InputError: there are no batches. The statistics are then as before.

    >>> model = bnn.BatchNorm(1, centered=False)
    >>> recalibrate(model, [torch.tensor([[[0.0, 2.0]]])])
    >>> float(model.running_var)
    1.0
    """
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
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


@torch.no_grad()
def refresh_filters(model: nn.Module) -> None:
    """Give every filter of unit norm the length of a fresh one, in place: outputs stay, steps count again.

    A unit-norm layer uses `ŵ = w / ‖w‖`, so a gradient step turns it by about `lr · ‖∇ŵ‖ / ‖w‖²` and makes it longer
    (van Laarhoven 2017, arXiv 1706.05350): a network that was trained for long hardly moves when it is fine-tuned. A
    filter drawn uniformly from ±1/√fan_in has the length 1/√3.

    Args:
        model: a network of torchbcos layers, or one that holds some; zero filters stay zero.

    >>> layer = bnn.BcosLinear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[30.0, 40.0]]))
    >>> refresh_filters(layer)
    >>> round(float(layer.weight.detach().norm()), 4)
    0.5774
    """
    for layer in model.modules():
        if isinstance(layer, (bnn.BcosLinear, bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)) and layer.unit_norm:
            length = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)
            factor = torch.where(length > 0, 3**-0.5 / length, torch.ones_like(length))
            layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))  # in place in any memory format
