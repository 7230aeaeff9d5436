"""Networks in which our ordinary layers are those of torch: Captum and zennit know layers by their classes."""

from __future__ import annotations

import copy

import torch
from torch import nn

from torchbcos import nn as bnn
from torchbcos._core.torch_private import forward_hooks

__all__ = ["InTurn", "sharing_copy", "with_layers_of_torch"]


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of a network's modules that shares its parameters and buffers, other tensors of modules, and hooks."""
    shared: list[object] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        shared += [value for value in vars(module).values() if isinstance(value, torch.Tensor)]  # of torch.nn.utils.weight_norm
        shared += forward_hooks(module)  # bound to somebody's recorder, they still speak to that one
    return copy.deepcopy(model, {id(one): one for one in shared})


class InTurn(nn.Module):
    """A module without parameters that is used several times, as one module for every use.

    Args:
        uses: the module for the first use in a pass, for the second, and so on.

    >>> InTurn([nn.ReLU(), nn.Tanh()])(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, uses: list[nn.Module]) -> None:
        super().__init__()
        self.uses = nn.ModuleList(uses)
        self.turn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next one's output."""
        use, self.turn = self.uses[self.turn % len(self.uses)], self.turn + 1
        y: torch.Tensor = use(x)
        return y


def with_layers_of_torch(network: nn.Module) -> nn.Module:
    """Exchange our ordinary layers inside `network`, which is a copy, for those of torch that compute the same.

    >>> [type(m).__name__ for m in with_layers_of_torch(nn.Sequential(bnn.ReLU(), bnn.BatchNorm(3), bnn.Logits()))]
    ['ReLU', 'BatchNorm2d', 'Identity']
    """
    made: dict[int, nn.Module] = {}
    for module in list(network.modules()):
        for name, child in module.named_children():
            setattr(module, name, made.setdefault(id(child), _ordinary(child)))
    return _ordinary(network)


def _ordinary(module: nn.Module) -> nn.Module:
    """The layer of torch that computes the same, or the module itself."""
    if type(module) is bnn.ReLU:
        return nn.ReLU()
    if type(module) is bnn.GELU:
        return nn.GELU()
    if type(module) is bnn.Logits and module.bias is None and module.temperature is None:
        return nn.Identity()
    if type(module) is bnn.BatchNorm and module.centered:
        norm: nn.Module = nn.BatchNorm2d(module.num_features, module.eps, device=module.running_mean.device)
        norm.to(module.running_mean.dtype).load_state_dict(module.state_dict(), strict=False)
        return norm.eval()
    if (
        isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and module.weight is None
    ):  # zennit merges those with weights only
        module.weight = nn.Parameter(torch.ones_like(module.running_mean)) if module.running_mean is not None else None
        module.bias = nn.Parameter(torch.zeros_like(module.running_mean)) if module.running_mean is not None else None
    return module
