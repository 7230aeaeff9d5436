"""What `explain` is asked: refused in one sentence where it makes no sense."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from torchbcos._core import torch_private
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos._core.numbers import integer, positive_integer
from torchbcos._core.targets import as_integers

__all__ = ["check_arguments", "matched", "part_of", "position_of"]

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_arguments(
    model: object, x: object, batch_size: object, create_graph: object, *, at: object = None, position: object = None,
    products: object = None, verify: object = False,
) -> None:  # fmt: skip
    """Raise unless the call makes sense."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"explain needs a torch.nn.Module, not {type(model).__name__}.")
    _check_surroundings()
    _check_input(x)
    if batch_size is not None and positive_integer(batch_size) is None:
        raise InputError(f"batch_size must be a positive integer or None, not {batch_size!r}.")
    if not isinstance(create_graph, bool) and not (isinstance(create_graph, str) and create_graph == "truncated"):
        raise InputError(f"create_graph must be False, True or 'truncated', not {create_graph!r}.")
    if position is not None and at is None:
        raise InputError(f"position={position!r} needs at=: it is a place in the output of the module that at= names.")
    if products not in (None, "half", "first", "second"):
        raise InputError(f"products must be None, 'half', 'first' or 'second', not {products!r}.")
    if not isinstance(verify, bool):
        raise InputError(f"verify must be True or False, not {verify!r}.")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise StateError(
                f"The module {name or 'itself'!r} is scripted or traced code, which nobody can watch: explain the network it was "
                "made from."
            )


def _check_input(x: object) -> None:
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(
            f"explain needs an encoded tensor (N, C, *S), not {type(x).__name__}; for pictures use torchbcos.load().explain()."
        )
    if x.layout != torch.strided or x.is_nested or x.is_meta:
        kind = "on the meta device, without numbers" if x.is_meta else "nested" if x.is_nested else f"of layout {x.layout}"
        raise InputError(f"Expected a dense tensor (N, C, *S), got one {kind}: sparse ones become dense by x.to_dense().")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: use x.float() / 255, then add_inverse.")
    if x.dtype not in _DTYPES:
        raise InputError(f"Expected float32, float64, float16 or bfloat16, got {x.dtype}: use x.float().")
    if x.dim() < 2 or x.numel() == 0:
        raise InputError(f"Expected at least one image (N, C, *S), got shape {tuple(x.shape)}.")
    if not bool(torch.isfinite(x).all()):
        raise InputError("The input has NaN or infinite values: an explanation of it would mean nothing.")


def _check_surroundings() -> None:
    """Raise where something around the call changes what autograd records or keeps: W would not be this network's."""
    if torch_private.inside_transform():
        raise StateError(
            "explain takes derivatives by itself and cannot run inside torch.func (vmap, grad, jvp) or torch.jit.trace: give it "
            "the whole batch; for derivatives of W use create_graph=True and torch.autograd.grad."
        )
    if torch_private.saved_tensor_hooks() and not torch_private.checkpointed() and not _kept_exactly():
        raise StateError(
            "Hooks on saved tensors (torch.autograd.graph.saved_tensors_hooks) are active here, and give back other numbers than "
            "they were given: W would be wrong. Call explain outside that block."
        )


def _kept_exactly() -> bool:
    """Whether what autograd saves here comes back as it was."""
    with torch.inference_mode(False), torch.enable_grad():
        factor = torch.linspace(1e-3, 7.0, 2**14).log()  # of full precision, and not small: hooks may let small tensors pass
        leaf = torch.ones_like(factor, requires_grad=True)
        try:
            (found,) = torch.autograd.grad((factor * leaf).sum(), leaf)
        except RuntimeError:  # another dtype or shape came back
            return False
    return torch.equal(found, factor)


def matched(other: Tensor, targets: Tensor) -> Tensor:
    """The contrast of every target: one for all of an image, or one each."""
    if other.shape[1] not in (1, targets.shape[1]):
        raise InputError(
            f"contrast of shape {tuple(other.shape)} does not fit targets of shape {tuple(targets.shape)}: give one class an "
            "image, or one for each of its targets."
        )
    return other.expand_as(targets)


def part_of(targets: object, rows: slice, n: int, name: str = "targets") -> object:
    """The targets of some images: per-image forms are cut, others kept."""
    if targets is None or integer(targets) is not None:
        return targets
    given = as_integers(targets, name)
    if given.dim() and len(given) != n:
        raise InputError(f"{name} of shape {tuple(given.shape)} do not fit {n} images.")
    return given[rows] if given.dim() else given


def position_of(position: object, space: tuple[int, ...]) -> tuple[int, ...]:
    """One integer for every space axis of a module's output."""
    alone = integer(position)
    several = isinstance(position, (tuple, list)) or (isinstance(position, (np.ndarray, Tensor)) and position.ndim == 1)
    given = [alone] if alone is not None or not several else [integer(p) for p in position]  # type: ignore[attr-defined]
    place = tuple(p for p in given if p is not None)
    if len(place) != len(given):
        raise InputError(f"position must be one integer a space axis, not {position!r}.")
    if len(place) != len(space) or any(not -s <= p < s for p, s in zip(place, space, strict=False)):
        raise InputError(f"position {place} does not lie in the module's output, whose space axes are {space}.")
    return place
