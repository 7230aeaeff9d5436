"""The twin of a network that predicts and explains, and no longer trains."""

from __future__ import annotations

import copy

import torch
from torch import nn


def deploy(model: nn.Module) -> nn.Module:
    """A copy for inference and explanation: eval mode, no gradients of parameters, channels_last.

    It gives the same numbers as `model` in eval mode; module names stay.

    Args:
        model: any network; it is left as it is.

    Returns:
        The twin.

    >>> from torchbcos.models import build
    >>> deploy(build("cifar10_resnet20")).training
    False
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    if any(p.dim() == 4 for p in twin.parameters()):
        twin = twin.to(memory_format=torch.channels_last)
    return twin
