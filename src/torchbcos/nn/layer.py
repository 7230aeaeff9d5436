"""The base of every layer: one opaque step for tracers, the layer's own code for everybody else."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from torchbcos._core.atoms import atom
from torchbcos._core.errors import StateError
from torchbcos._core.frozen import current, running

__all__ = ["Layer", "run_layer"]


class Layer(nn.Module):
    """A layer that computes in `compute`; `torch.fx` records it as one step.

    A traced network therefore asks for the frozen state when it runs, not when it was traced:
    the graph predicts and explains like the network it came from.
    """

    # Which axis of the output holds channels; `explain(at=...)` reads it.
    channel_dim = 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return run_layer(self, x)

    def compute(self, x: Tensor, *rest: Any) -> Tensor:
        """What the layer does; subclasses define it. Some take more than x: a mask, say."""
        raise NotImplementedError

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks first.

        Raises:
            StateError: always: a script cannot say what is held while an explanation runs.
        """
        raise StateError(
            "torch.jit.script does not take layers of torchbcos. torch.export.export(network, (x,)) records a network as it is, "
            "torch.jit.trace(network, x) one that only predicts; torchbcos.explanation_graph(network, x) explains, too."
        )

    def __fx_create_arg__(self, tracer: Any) -> torch.fx.Node:
        """As an argument of a traced call, the layer is an attribute of the traced module."""
        node: torch.fx.Node = tracer.create_node("get_attr", tracer.path_of_module(self), (), {})
        return node


def run_layer(layer: Layer, x: Tensor, *rest: Any) -> Tensor:
    """Call `layer.compute(x, *rest)`, telling the explanation that runs here which layer it is; one node in a traced graph."""
    if current() is None:
        return layer.compute(x, *rest)
    with running(layer):
        # what a layer of layers does between them is watched, unless they only make its weights
        alone = all(name == "parametrizations" for name, _ in layer.named_children())
        return _one_step(layer, x, *rest) if alone else layer.compute(x, *rest)


@atom(signal=1)
def _one_step(layer: Layer, x: Tensor, *rest: Any) -> Tensor:
    return layer.compute(x, *rest)


torch.fx.wrap("run_layer")  # torch.fx records a call of this name in this module as one step
