"""How many multiplications and additions a network does for one input, and would do with fewer channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.nn.attention import Attention
from torchbcos.search.groups import Group

__all__ = ["Costs", "count_flops"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)
_LINEARS = (nn.Linear, bnn.BcosLinear)


@dataclass(frozen=True)
class Costs:
    """Floating-point operations of matrix products, by layer: two for each multiplication, as `torch.utils.flop_counter` counts.

    What is done once a number (norms, activations, the cosine of a B-cos layer) is left out.

    Attributes:
        layers: of each layer, for one input.
        outputs, inputs: the group that makes the outputs of a layer, or its inputs; by layer.
    """

    layers: Mapping[str, float]
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, network: nn.Module, x: Tensor, groups: Sequence[Group]) -> Costs:
        """Those of a network for an input like x, (1, C, *S)."""
        outputs: dict[str, str] = {}
        inputs: dict[str, str] = {}
        for group in groups:
            if group.heads:  # queries, keys, values and what is made of them; the output layer reads fewer
                outputs[f"{group.name}.to_qkv" if group.name else "to_qkv"] = group.name
                outputs[group.name] = group.name
            else:
                outputs[group.name] = group.name
                outputs.update(dict.fromkeys(group.between, group.name))
            inputs.update(dict.fromkeys(group.readers, group.name))
        return cls(_measured(network, x), outputs, inputs)

    def total(self, kept: Mapping[str, float] | None = None) -> float:
        """Of the whole network, with these shares of the groups, by name; None: all of everything."""
        shares = kept or {}
        return math.fsum(
            cost * shares.get(self.outputs.get(name, ""), 1.0) * shares.get(self.inputs.get(name, ""), 1.0)
            if name in self.outputs or name in self.inputs
            else cost
            for name, cost in self.layers.items()
        )


def count_flops(network: nn.Module, x: Tensor) -> float:
    """Floating-point operations for x (1, C, *S): of convolutions, linear layers and attention.

    >>> count_flops(nn.Linear(8, 4), torch.zeros(1, 8))
    64.0
    """
    return math.fsum(_measured(network, x).values())


@torch.no_grad()
def _measured(network: nn.Module, x: Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, *_LINEARS, Attention)):
            hooks.append(module.register_forward_hook(_counter(found, name)))
    was = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was:
            module.training = training
    return found


def _counter(found: dict[str, float], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def count(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, Attention):
            tokens = math.prod(out.shape[1:-1])
            cost = 4.0 * tokens * tokens * module.heads * module.head_dim * out.shape[0]
        else:
            weight = module.weight
            assert isinstance(weight, Tensor)
            places = out.numel() // (weight.shape[0] // getattr(module, "max_out", 1))
            cost = 2.0 * places * weight.numel()
        found[name] = found.get(name, 0.0) + cost

    return count
