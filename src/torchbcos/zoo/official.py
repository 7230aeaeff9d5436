"""Key maps between our state dicts and official checkpoints, both ways.

The networks use the official module names. Two things differ: official B-cos layers keep their
weight in a sub-module `linear`, and some official networks stand in another module: a network names that prefix itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from torchbcos import nn as bnn
from torchbcos.models import Network

__all__ = ["from_official", "to_official"]

_T = TypeVar("_T")
_BCOS_LAYERS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


def _official_keys(model: Network) -> dict[str, str]:
    """Our key -> official key, for every entry of the model's state dict."""
    layers = {name for name, m in model.named_modules() if isinstance(m, _BCOS_LAYERS)}
    keys = {}
    for key in model.state_dict():
        owner, _, leaf = key.rpartition(".")
        keys[key] = model.official_prefix + (f"{owner}.linear.{leaf}" if owner in layers and leaf == "weight" else key)
    return keys


def from_official(model: Network, state: Mapping[str, _T]) -> dict[str, _T]:
    """An official state dict (of tensors, or of what is known of them) under our keys; what is not ours keeps its name."""
    ours = {official: key for key, official in _official_keys(model).items()}
    return {ours.get(key, key): value for key, value in state.items()}


def to_official(model: Network) -> dict[str, Tensor]:
    """Our weights under official keys: what the official package loads.

    >>> from torchbcos.models import build
    >>> list(to_official(build("cifar10_resnet20")))[0]
    'conv1.linear.weight'
    """
    keys = _official_keys(model)
    return {keys[key]: value for key, value in model.state_dict().items()}
