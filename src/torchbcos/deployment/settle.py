"""Weights that are made of other tensors, made plain: parametrised (LoRA, weight norm, spectral norm) and pruned ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

from torchbcos._core.errors import StateError

__all__ = ["copy_of", "settle_weights_"]

_M = TypeVar("_M", bound=nn.Module)

# by what their first parameter is called beside `weight`: hooks of `torch.nn.utils` that make the weight at every call
_OLD: dict[str, tuple[Callable[..., object], ...]] = {"_g": (remove_weight_norm,), "_orig": (prune.remove, remove_spectral_norm)}


def copy_of(model: _M) -> _M:
    """A deep copy; tensors that hooks made of parameters (old weight norm, pruning), which Python cannot copy, as numbers."""
    made = [t for m in model.modules() for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf]
    return copy.deepcopy(model, {id(t): t.detach().clone() for t in made})


def settle_weights_(model: nn.Module) -> list[str]:
    """Make each weight that is computed from others a parameter with its present numbers; return their names.

    Raises:
        StateError: one cannot be made plain.
    """
    done = []
    for path, module in list(model.named_modules()):
        try:
            found = _settle_parametrised_(module) + _settle_hooks_(module)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise StateError(
                f"The weights of {path or 'the network'!r} are made of other tensors and cannot be made plain "
                f"({str(error)[:120]}). Remove the parametrisation or pruning first "
                "(torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.prune.remove), then deploy."
            ) from error
        done += [f"{path}.{name}" if path else name for name in found]
    return done


@torch.no_grad()
def _settle_parametrised_(module: nn.Module) -> list[str]:
    """Make plain what `torch.nn.utils.parametrize` computes of this module.

    Not by its own `remove_parametrizations`: that edits the class of the module, which a deep copy shares with the network
    that it was copied from.
    """
    made = module.parametrizations if parametrize.is_parametrized(module) else None
    if not isinstance(made, nn.ModuleDict):
        return []
    now = {name: (getattr(module, name).detach().clone(), any(True for _ in steps.parameters(recurse=False)))
           for name, steps in made.items()}  # fmt: skip
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, (value, learns) in now.items():
        if learns:
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(name, value)
    return list(now)


def _settle_hooks_(module: nn.Module) -> list[str]:
    """Remove the hooks of `torch.nn.utils` that compute parameters of this module."""
    done = []
    for key, _ in list(module.named_parameters(recurse=False)):
        for ending, removals in _OLD.items():
            name = key.removesuffix(ending)
            if name != key and any(_removed(remove, module, name) for remove in removals):
                done.append(name)
    return done


def _removed(remove: Callable[..., object], module: nn.Module, name: str) -> bool:
    """Whether a hook that made this parameter stood there, and is gone; each function refuses with ValueError if it did not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the old weight norm is deprecated, and people have it still
            remove(module, name)
    except ValueError:
        return False
    return True
