"""The twin of a network that predicts and explains, and no longer trains."""

from __future__ import annotations

import weakref
from collections.abc import Container
from typing import Any, TypeVar

import torch
from torch import nn

from torchbcos._core.errors import ArgumentTypeError, StateError
from torchbcos.deployment.pairs import fold_norms_, fold_unit_norms_
from torchbcos.deployment.settle import copy_of, settle_weights_

__all__ = ["deploy", "is_deployed", "make_twin_"]

_M = TypeVar("_M", bound=nn.Module)


class _Refusal:
    """What stands in the place of `train` on a deployed twin: `train(False)`, which is `eval()`, and nothing else.

    It stands on the instance, not in a new class: `isinstance`, `deepcopy` and `pickle` go on working. It knows its twin
    by a weak reference only. A strong one would be a circle, and a twin that nobody uses would keep its weights, on an
    accelerator too, until Python's garbage collector happens to run.

    Args:
        model: the twin.
    """

    def __init__(self, model: nn.Module) -> None:
        self.twin = weakref.ref(model)

    def __call__(self, mode: bool = True) -> nn.Module:
        """Bring the twin to eval mode.

        Raises:
            StateError: `mode` is true, or the twin is gone.
        """
        model = self.twin()
        if mode or model is None:
            raise StateError(
                f"This {type(model).__name__ if model is not None else 'network'} is a deployed twin, made for inference and "
                "explanation; it does not train: train the network it was made from (torchbcos.load(..., deploy=False), or "
                "create_model), then deploy again."
            )
        return type(model).train(model, False)  # not nn.Module's: a network may have its own

    def __deepcopy__(self, memo: dict[int, Any]) -> _Refusal:
        """That of the copy of the twin, where the twin is being copied."""
        model = self._twin()
        return _Refusal(memo.get(id(model), model))

    def __reduce__(self) -> tuple[type[_Refusal], tuple[nn.Module]]:
        """Its twin, which pickle knows already where the twin is being pickled."""
        return _Refusal, (self._twin(),)

    def _twin(self) -> nn.Module:
        model = self.twin()
        if model is None:
            raise StateError("This is the train method of a deployed twin that is gone: keep the twin to copy it.")
        return model


def deploy(model: _M) -> _M:
    """A copy for inference and explanation: norms and filter norms folded, eval mode, no gradients of parameters, channels_last.

    It gives the numbers of `model` in eval mode; each folded pair is checked as it is made. Module
    names stay: a folded norm is an identity, and the output of the convolution that took it in is
    the norm's. The twin refuses to train, and what `torchbcos.save` writes of it comes back as a
    twin that refuses too. Weights that are computed from others (`torch.nn.utils.parametrize`, weight norm, spectral norm,
    pruning) are plain numbers in the twin.

    Args:
        model: any network; it is left as it is.

    Returns:
        The twin.

    Raises:
        ArgumentTypeError: `model` is no module.
        StateError: a folded pair gives other numbers, or weights cannot be made plain; later, by the twin's `.train()`.

    >>> from torchbcos.models import build
    >>> deploy(build("cifar10_resnet20")).training
    False
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"deploy needs a torch.nn.Module, not {type(model).__name__}; a classifier has one: clf.model.")
    return make_twin_(copy_of(model))


def make_twin_(model: _M, *, check: bool = True, keep: Container[str] = ()) -> _M:
    """Turn `model` itself into its deployed twin: for callers that own it, without a second copy of the weights.

    Without `check`, folded pairs are not run to see that they give the same: for networks made of our own layers, whose
    folding is tested, where start-up time counts. Norms whose names are in `keep` are not folded: a twin that is read from a
    file has them, as their weights were such that nothing could take them in.
    """
    model = model.eval().requires_grad_(False)
    settle_weights_(model)
    fold_norms_(model, check=check, keep=keep)
    fold_unit_norms_(model)
    if any(p.dim() == 4 for p in model.parameters()):
        model = model.to(memory_format=torch.channels_last)
    vars(model)["train"] = _Refusal(model)
    return model


def is_deployed(model: nn.Module) -> bool:
    """Whether `model` is a deployed twin.

    >>> is_deployed(nn.Linear(2, 2)), is_deployed(deploy(nn.Linear(2, 2)))
    (False, True)
    """
    return isinstance(vars(model).get("train"), _Refusal)
