"""What a checkpoint holds, read as data that anybody may have written: each value is looked at before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import WeightsError, shorten
from torchbcos.training.relative import RelativeAdam

__all__ = ["Kept", "fill_network", "fill_optimizer"]

_MOST = 10**12  # steps, losses or epochs
# what each optimiser remembers of a parameter that it has moved; SGD without momentum remembers nothing
_MOMENTS: Mapping[type, frozenset[str]] = {
    torch.optim.Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    RelativeAdam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    torch.optim.SGD: frozenset({"momentum_buffer"}),
}


@dataclass(frozen=True)
class Kept:
    """How far a run was.

    Attributes:
        done: optimiser steps.
        best: "score" and "epoch" of the best weights.
        seconds: that the run took.
        loss_sum, losses: of the epoch so far.
        failures: a sentence for every example that could not be read.
    """

    done: int
    best: dict[str, Any]
    seconds: float
    loss_sum: float
    losses: int
    failures: list[str]

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Kept:
        """How far the run was that wrote this checkpoint.

        Raises:
            WeightsError: a value is missing, or is none that a run writes.
        """
        kept = checkpoint.get("torchbcos")
        if not isinstance(kept, Mapping):
            raise _wrong("torchbcos", kept)
        if not isinstance(checkpoint.get("state_dict"), Mapping):
            raise _wrong("state_dict", checkpoint.get("state_dict"))
        optimizers = checkpoint.get("optimizer_states")
        if not isinstance(optimizers, list) or not optimizers or not isinstance(optimizers[0], Mapping):
            raise _wrong("optimizer_states", optimizers)
        best, losses, failures = kept.get("best"), kept.get("losses"), kept.get("failures")
        if not isinstance(best, Mapping) or not _is_real(best.get("score")) or not _is_count(best.get("epoch", 0)):
            raise _wrong("best", best)
        if not isinstance(losses, list | tuple) or len(losses) != 2 or not _is_real(losses[0]) or not _is_count(losses[1]):
            raise _wrong("losses", losses)
        if not isinstance(failures, list) or not all(isinstance(text, str) for text in failures):
            raise _wrong("failures", failures)
        if not _is_count(kept.get("done")):
            raise _wrong("done", kept.get("done"))
        if not _is_real(kept.get("seconds")) or not 0 <= kept["seconds"] < math.inf:
            raise _wrong("seconds", kept.get("seconds"))
        return cls(kept["done"], dict(best), float(kept["seconds"]), float(losses[0]), losses[1], list(failures))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _wrong(name: str, value: Any) -> WeightsError:
    """What is said of a value that no run writes."""
    said = "is missing" if value is None else f"is {shorten(ascii(value), 80)}"
    return WeightsError(f"is no checkpoint that a run has written: its {name!r} {said}.")


def fill_network(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Give a network the weights of a checkpoint, which are exactly its own: names, shapes and types.

    Args:
        network: gets them.
        weights: by the network's own names.
        where: they come from, for the message.

    Raises:
        WeightsError: they are another network's.
    """
    own = network.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(map(str, set(weights) - set(own)))
    if missing or extra:
        example = f"{missing[0]!r} is missing" if missing else f"{shorten(ascii(extra[0]), 80)} is unknown"
        raise WeightsError(f"{where} holds another network's weights: {example}. {_ADVICE}")
    for name, value in own.items():
        found = weights[name]
        if isinstance(value, Tensor) and _form(found) != _form(value):
            raise WeightsError(f"{where} holds {name!r} as {_form(found)}, where the network has {_form(value)}. {_ADVICE}")
    network.load_state_dict(weights)


_ADVICE = "Go on with the recipe and the data that the run was begun with, or choose another --out."


def _form(value: Any) -> str:
    """The type and shape of a tensor, in words."""
    if not isinstance(value, Tensor):
        return shorten(ascii(value), 80)
    kind = str(value.dtype).removeprefix("torch.")
    layout = "" if value.layout == torch.strided else f" {str(value.layout).removeprefix('torch.')}"
    return f"{kind}{layout} {tuple(value.shape)}"


def fill_optimizer(optimizer: torch.optim.Optimizer, kept: Mapping[str, Any], where: str) -> None:
    """Give an optimiser what it remembered of its parameters; how it learns on (rates, decay, …) stays its own.

    Raises:
        WeightsError: it is another optimiser's memory.
    """
    own = optimizer.state_dict()["param_groups"]
    try:
        if [group["params"] for group in kept["param_groups"]] != [group["params"] for group in own]:
            raise WeightsError(f"{where} groups the parameters of the optimiser in another way. {_ADVICE}")
        optimizer.load_state_dict({"state": dict(kept["state"]), "param_groups": own})
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{where} holds no memory of this optimiser ({type(error).__name__}). {_ADVICE}") from error
    wanted = next((names for kind, names in _MOMENTS.items() if type(optimizer) is kind), frozenset())
    for parameter, memory in optimizer.state.items():
        if not isinstance(memory, dict) or not wanted >= set(memory) or (memory and not wanted <= set(memory)):
            raise WeightsError(f"{where} holds the memory of another optimiser: {shorten(ascii(memory), 80)}. {_ADVICE}")
        for name, value in memory.items():
            shape = () if name == "step" else tuple(parameter.shape)
            if value is not None and (not isinstance(value, Tensor) or tuple(value.shape) != shape):
                raise WeightsError(f"{where} holds {name!r} of the optimiser as {_form(value)}, not {shape}. {_ADVICE}")
