"""How local a surface network is: which part of the evidence at a place comes from that place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.explanation import explain
from torchbcos.models.surface import SurfaceViT
from torchbcos.nn.prototypes import Prototypes

__all__ = ["locality_share"]


def locality_share(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The part of the evidence at each place that comes from the place's own vertices.

    The evidence for class c at place i is `s_i = Σ_k s_ick`, a likeness of token i. Tokens have mixed by attention, so it comes
    from all vertices: `s_i = Σ_v (contribution of v to s_i)` exactly. Of that sum, the vertices of place i make up this part.
    Where it is small, a map that paints `s_i` at place i misleads.

    Args:
        model: a surface network with prototypes (`torchbcos.create_model("surface_vit_…")`).
        x: (N, 2F, V) subjects.
        target: class c.

    Returns:
        (N, P); NaN where a place has no evidence.

    Raises:
        InputError: the network is another one, or has no such class.
    """
    head = model.classifier if isinstance(model, SurfaceViT) else None
    if not isinstance(model, SurfaceViT) or not isinstance(head, Prototypes):
        raise InputError("Locality is asked of a surface network with prototypes: torchbcos.create_model('surface_vit_nano').")
    if not 0 <= target < model.num_classes:
        raise InputError(f"target must be from 0 to {model.num_classes - 1}, not {target}.")
    table, count = model.places, head.per_class
    channels = torch.arange(target * count, (target + 1) * count).expand(len(x), -1)
    found = []
    for place, vertices in enumerate(table):
        e = explain(model, x, channels, at="classifier.similarity", position=(place,))
        values = e.values.sum(1)
        own = e.contributions.sum(1)[:, vertices].sum(1)
        found.append(torch.where(values.abs() > 0, own / values, torch.nan))
    return torch.stack(found, 1)
