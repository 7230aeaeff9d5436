"""Biases that a module adds by itself, at the end of what it does: they become a norm bias behind it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError
from torchbcos.conversion.planning import Planned, words_of
from torchbcos.conversion.recording import Recording, Run
from torchbcos.conversion.replacing import apply_step
from torchbcos.conversion.steps import Step

__all__ = ["shifted"]

_TOLERANCE = 1e-4  # of the largest output


def shifted(
    network: nn.Module, recording: Recording, x: Tensor, zeroed: Sequence[Step], plans: Sequence[Planned]
) -> tuple[list[Planned], list[Step]]:  # fmt: skip
    """Of steps that would set biases to zero those whose module does nothing else with them than add them to what it gives.

    That is proved on what the module took and gave: without them its output is another by one number a channel, the same for all
    examples and places. A module that holds others which a step is about is left out: they would get other names; and one whose
    bias, or anything else of it, other code reads.

    Args:
        network: as given.
        recording: of it.
        x: (N, C, *S) as it takes it.
        zeroed: steps of kind "zero".
        plans: of the conversion so far.

    Returns:
        Steps of kind "shift" with the numbers that were added, and the steps that are left as they were.
    """
    found: list[tuple[Planned, Step]] = []
    left: list[Step] = []
    steps = [*(p.step for p in plans if p.step.kind != "set"), *zeroed]
    for step in zeroed:
        holds = any(other.path.startswith(f"{step.path}.") or (other.path == step.path and other is not step) for other in steps)
        free = step.path and not holds and step.path not in recording.elsewhere
        run = recording.runs.get(step.path) if free else None
        made = None if run is None else _shift(run, tuple(step.settings["names"]))
        if made is None:
            left.append(step)
        else:
            found.append((made, step))
    if not _runs(network, [made for made, _ in found], x):  # some of them do not, seldom
        runs = [_runs(network, [made], x) for made, _ in found]
        left += [step for (_, step), fine in zip(found, runs, strict=True) if not fine]
        found = [pair for pair, fine in zip(found, runs, strict=True) if fine]
    return [made for made, _ in found], left


@torch.no_grad()
def _runs(network: nn.Module, plans: Sequence[Planned], x: Tensor) -> bool:
    """Whether the network runs with these modules behind other names, each handed one tensor."""
    if not plans:
        return True
    twin = copy.deepcopy(network)
    try:
        for planned in plans:
            twin = apply_step(twin, planned.step, planned.numbers)
        twin(x[:1])
    except (BcosError, RuntimeError, TypeError, ValueError, AttributeError):
        return False
    return True


@torch.no_grad()
def _shift(run: Run, names: tuple[str, ...]) -> Planned | None:
    """The step for one module; None where its biases do something else."""
    if run.y is None or run.y.dim() < 2 or not run.signal:
        return None
    twin = copy.deepcopy(run.module)
    for name in names:
        nn.init.zeros_(getattr(twin, name))
    try:
        without = twin(*copy.deepcopy(run.args), **copy.deepcopy(run.kwargs))
    except (BcosError, RuntimeError, TypeError, ValueError, AttributeError):
        return None
    if not isinstance(without, Tensor) or without.shape != run.y.shape:
        return None
    added, largest = run.y - without, float(run.y.abs().max())
    for axis in (1, -1):
        others = [i for i in range(added.dim()) if i != axis % added.dim()]
        bias = added.mean(others, keepdim=True)
        if bool(((added - bias).abs() <= _TOLERANCE * max(largest, 1e-12)).all()):
            settings = {"names": list(names), "num_features": bias.numel(), "channel_dim": axis}
            step = Step(run.path, "shift", settings)
            return Planned(step, words_of(run.module), numbers=(bias.new_zeros(0), bias.flatten().clone()))
    return None
