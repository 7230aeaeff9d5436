"""How many multiplications and additions a network does for one input, and would do with fewer channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.nn.attention import Attention
from torchbcos.nn.windows import WindowAttention
from torchbcos.search.groups import Group
from torchbcos.search.watching import listening

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
            cost * math.prod(shares.get(side[name], 1.0) for side in (self.outputs, self.inputs) if name in side)
            for name, cost in self.layers.items()
        )


def count_flops(network: nn.Module, x: Tensor) -> float:
    """Floating-point operations for x (1, C, *S): of convolutions, linear layers and the attention of this library.

    >>> count_flops(nn.Linear(8, 4), torch.zeros(1, 8))
    64.0
    """
    return math.fsum(_measured(network, x).values())


@torch.no_grad()
def _measured(network: nn.Module, x: Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    counted = (*_CONVOLUTIONS, *_LINEARS, Attention)
    with listening(network, {n: _counter(found, n) for n, module in network.named_modules() if isinstance(module, counted)}):
        network(x)
    return found


def _counter(found: dict[str, float], name: str) -> Callable[[Any, Tensor, Tensor], None]:
    def count(layer: Any, _: Tensor, out: Tensor) -> None:
        if isinstance(layer, Attention):
            places, times = tuple(out.shape[1:-1]), len(out)
            if isinstance(layer, WindowAttention):
                times *= math.prod(-(-side // layer.window) for side in places)
                places = (layer.window, layer.window)
            cost = 4.0 * math.prod(places) ** 2 * layer.heads * layer.head_dim * times
        else:
            cost = 2.0 * layer.weight.numel() * (out.numel() // (layer.weight.shape[0] // getattr(layer, "max_out", 1)))
        found[name] = found.get(name, 0.0) + cost

    return count
