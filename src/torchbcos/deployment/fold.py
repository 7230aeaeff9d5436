"""The twin of a network that predicts and explains, and no longer trains."""

from __future__ import annotations

import copy
import functools

import torch
from torch import nn

from torchbcos._core.errors import ArgumentTypeError, StateError
from torchbcos.deployment.pairs import fold_norms_, fold_unit_norms_


def deploy(model: nn.Module) -> nn.Module:
    """A copy for inference and explanation: norms and filter norms folded, eval mode, no gradients of parameters, channels_last.

    It gives the numbers of `model` in eval mode; each folded pair is checked as it is made. Module
    names stay: a folded norm is an identity, and the output of the convolution that took it in is
    the norm's. The twin refuses to train, and what `torchbcos.save` writes of it comes back as a
    twin that refuses too.

    Args:
        model: any network; it is left as it is.

    Returns:
        The twin.

    Raises:
        ArgumentTypeError: `model` is no module.
        StateError: a folded pair gives other numbers; later, by the twin's `.train()`.

    >>> from torchbcos.models import build
    >>> deploy(build("cifar10_resnet20")).training
    False
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"deploy needs a torch.nn.Module, not {type(model).__name__}; a classifier has one: clf.model.")
    return make_twin_(copy.deepcopy(model))


def make_twin_(model: nn.Module, *, check: bool = True) -> nn.Module:
    """Turn `model` itself into its deployed twin: for callers that own it, without a second copy of the weights.

    Without `check`, folded pairs are not run to see that they give the same: for networks made of our own layers, whose
    folding is tested, where start-up time counts.
    """
    model = model.eval().requires_grad_(False)
    fold_norms_(model, check=check)
    fold_unit_norms_(model)
    if any(p.dim() == 4 for p in model.parameters()):
        model = model.to(memory_format=torch.channels_last)
    # On the instance, not in a new class: isinstance, deepcopy and pickle go on working, and a partial of a module's
    # function is copied together with the network that it holds.
    model.train = functools.partial(refuse_training, model)  # type: ignore[method-assign]
    return model


def is_deployed(model: nn.Module) -> bool:
    """Whether `model` is a deployed twin.

    >>> is_deployed(nn.Linear(2, 2)), is_deployed(deploy(nn.Linear(2, 2)))
    (False, True)
    """
    train = vars(model).get("train")
    return isinstance(train, functools.partial) and train.func is refuse_training


def refuse_training(model: nn.Module, mode: bool = True) -> nn.Module:
    """What `train` of a deployed twin does: `train(False)`, which is `eval()`, and nothing else.

    Raises:
        StateError: `mode` is true.
    """
    if mode:
        raise StateError(
            f"This {type(model).__name__} is a deployed twin, made for inference and explanation; it does not train: "
            "train the network it was made from (torchbcos.load(..., deploy=False), or create_model), then deploy again."
        )
    return type(model).train(model, False)  # not nn.Module's: a network may have its own
