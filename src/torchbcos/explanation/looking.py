"""Whether a network can be explained at all: asked before it is used or trained, of one example."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, shorten
from torchbcos.explanation.engine import explain
from torchbcos.rendering import format_number

__all__ = ["objection"]


def objection(network: nn.Module, x: Tensor) -> str | None:
    """Why `explain` does not explain a network exactly, as a sentence; None where it does, or where this input does not tell.

    Args:
        network: in any mode; it is asked in eval mode, and each of its modules is as it was afterwards.
        x: (N, C, *S) encoded input that it takes.

    >>> objection(nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softmax(1)), torch.rand(1, 3, 2, 2))[:47]
    'The outputs of this network cannot be explained'
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            e = explain(network.eval(), x)
    except (InputError, torch.OutOfMemoryError, MemoryError):  # of the input, not of the network: a fresh one lets it die
        return None
    except Exception as error:  # of somebody's own forward: of any class
        return shorten(" ".join(str(error).split()), 300) or type(error).__name__
    finally:
        for module, mode in modes:
            module.training = mode
    if bool(e.complete.all()):
        return None
    i, k = (int(place) for place in (~e.complete).nonzero()[0])
    missing, value = format_number(float(e.residual[i, k])), format_number(float(e.values[i, k]))
    return (
        f"Pixels and constants do not add up to the logit: {missing} of {value} is missing, as the network does something that "
        "its explanation does not know (a layer or a rule says what is not so); torchbcos.testing.check_model(model, x) names it."
    )
