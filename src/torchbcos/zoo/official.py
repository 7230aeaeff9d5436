"""Key maps between our state dicts and official checkpoints, both ways.

The networks use the official module names. Two things differ: official B-cos layers keep their
weight in a sub-module `linear`, and official B-cos ViTs stand in a Sequential (prefix `0.`).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from torchbcos import nn as bnn

BCOS_LAYERS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


def official_keys(model: nn.Module) -> dict[str, str]:
    """Our key -> official key, for every entry of the model's state dict."""
    layers = {name for name, m in model.named_modules() if isinstance(m, BCOS_LAYERS)}
    prefix = "0." if layers and hasattr(model, "transformer") else ""
    keys = {}
    for key in model.state_dict():
        owner, _, leaf = key.rpartition(".")
        keys[key] = prefix + (f"{owner}.linear.{leaf}" if owner in layers and leaf == "weight" else key)
    return keys


def from_official(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official state dict under our keys; what is not ours keeps its name."""
    ours = {official: key for key, official in official_keys(model).items()}
    return {ours.get(key, key): value for key, value in state.items()}


def to_official(model: nn.Module) -> dict[str, Tensor]:
    """Our weights under official keys."""
    keys = official_keys(model)
    return {keys[key]: value for key, value in model.state_dict().items()}
