"""Numbers that an explanation cannot have: none at all, infinite ones, and a W that is zero because it became too small."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError

__all__ = ["check_finite", "check_signal", "largest_of"]

_ORDINARY = 1e4  # the largest number in an input that nobody would call the reason
# Where the largest number of W is at most this, its bits, or a factor's on the way, may be lost: (bound, tolerance) a dtype.
# float16 has few numbers below those of sound explanations, and its rounding alone moves W by a tenth
_SUSPICIOUS = {torch.float32: (1e-32, 1e-2), torch.bfloat16: (1e-32, 0.5), torch.float16: (1.5e-5, 0.5)}


def largest_of(weights: Tensor) -> Tensor:
    """The largest size in each W (N, K, C, *S): (N, K); no number where W has one that is none."""
    # target by target, as their sizes need not stand in memory together; torch's own norm takes ten times as long
    rows = [w.abs().amax(tuple(range(1, w.dim()))) for w in weights.detach().unbind(1)]
    return torch.stack(rows, 1)


def check_finite(model: nn.Module, x: Tensor | None, found: Mapping[str, Tensor]) -> None:
    """Raise unless all numbers of these tensors are finite.

    Args:
        model: what made them.
        x: from what, where it is known: then the message looks for the place.
        found: what a message calls each tensor, and the tensor.

    Raises:
        StateError: some are not; the message says where they come from.
    """
    if bool(torch.stack([t.detach().isfinite().all() for t in found.values()]).all()):
        return
    what = next(name for name, t in found.items() if not bool(t.detach().isfinite().all()))
    raise StateError(f"The {what} of this network hold NaN or infinity, which is no answer: {_reason(model, x)}")


def _reason(model: nn.Module, x: Tensor | None) -> str:
    """Why a network gives NaN or infinity for `x`, and what to do."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            return f"{name!r} holds such numbers itself (a training that diverged, or a damaged file): use other weights."
    if x is None:
        return "its weights are finite, so look at its input."
    size, kind = float(x.detach().abs().max()), str(x.dtype).removeprefix("torch.")
    place = _first_module(model, x)
    where = f"the first come out of {place!r}" if place else "they come from no single module"
    if not size <= _ORDINARY:
        return f"the input reaches {size:.2g}, whose squares do not fit into {kind} ({where}): divide it, or use float64."
    if x.dtype in (torch.float16, torch.bfloat16):
        return f"{where}, perhaps since its numbers do not fit into {kind}: try network and input in float32."
    return f"{where}: its input or its weights are too large for {kind}, or it divides by zero."


def _first_module(model: nn.Module, x: Tensor) -> str:
    """The first innermost module that gives numbers that are not finite, in a forward pass of a copy; "" if none is found."""
    seen: list[str] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and not bool(torch.isfinite(output).all()):
                seen.append(name)

        return hook

    try:
        twin = copy.deepcopy(model)
        for name, module in twin.named_modules():
            module.register_forward_hook(note(name))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            twin(x.detach().clone())
    except Exception:  # whatever a foreign network does in a second pass: the sentence is then shorter
        return seen[0] if seen else ""
    return seen[0] if seen else ""


def check_signal(
    model: nn.Module, x: Tensor, largest: Tensor, targets: Tensor, again: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> None:
    """Raise where W is zero, or nearly so, only because numbers became too small for their dtype on the way.

    A W of zeros may be right: of a head of zeros, of a black picture. So where one is found, or nearly, the same is asked of a
    copy in float64; that happens seldom enough.

    Args:
        model, x: what was explained.
        largest: (N, K) the largest size in each W.
        targets: (N, K) what was explained.
        again: gives `largest` for another network, input and targets.

    Raises:
        InputError: the input is so small, or the network so deep, that nothing was left of it.
    """
    bound, tolerance = _SUSPICIOUS.get(x.dtype, (-1.0, 0.0))
    gone = largest <= bound
    if x.device.type == "mps" or not bool(gone.any()):
        return
    try:
        with torch.random.fork_rng(devices=[]):
            wide = again(copy.deepcopy(model).double(), x.detach().double(), targets)
    except Exception:  # a network that cannot be copied, or computes in one dtype: nothing is known of it
        return
    lost = gone & ((wide - largest).abs() > tolerance * wide)
    if bool(lost.any()):
        i, k = (int(place) for place in lost.nonzero()[0])
        size, kind = float(x[i].detach().abs().max()), str(x.dtype).removeprefix("torch.")
        raise InputError(
            f"Image {i}, target {k}: W is too small for {kind}; its largest number is {float(wide[i, k]):.1e} in float64 and "
            f"{float(largest[i, k]):.1e} here. The input reaches {size:.1e}: small inputs die, as every norm has an epsilon, "
            "and so do signals in deep networks without norms. Scale the input (a picture: 0 to 1), calibrate the norms "
            "(torchbcos.recalibrate), or use a wider dtype."
        )
