"""Opening a model to measure it: what `torchbcos.load` opens, or weights that a run keeps in its checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, shorten
from torchbcos.models import Network
from torchbcos.runs import RunFolder
from torchbcos.zoo import Classifier, load
from torchbcos.zoo.archive import entry_of
from torchbcos.zoo.build import Code, build_fitting
from torchbcos.zoo.sources import pick_device
from torchbcos.zoo.store import CARD, WEIGHTS, fill, read_card, read_weights

__all__ = ["open_model"]

_OF_A_RUN = ("ema", "last", "best")


def open_model(
    source: str | Path, *, weights: str = "auto", device: str = "auto", allow_code: bool = False, deploy: bool = True
) -> Classifier:  # fmt: skip
    """A classifier for measuring: what `torchbcos.load` opens, or a run's folder.

    Args:
        source: a model, or the folder of a run (`torchbcos train --out`).
        weights: of a run: "auto" (what it exported), "ema", "last" or "best"; from its checkpoints. Of another source: the file
            of weights that `load` takes for it.
        device, allow_code, deploy: as in `load`; what comes from a checkpoint is never deployed.

    Raises:
        MissingFileError, InputError, WeightsError: there is no such model, or no such weights.
    """
    if weights == "auto":
        return load(source, device=device, allow_code=allow_code, deploy=deploy)
    if weights not in _OF_A_RUN:
        if RunFolder(Path(source)).card.is_file():
            raise InputError(f"weights is 'auto', 'ema', 'last' or 'best', not {shorten(repr(weights), 120)}.")
        return load(source, weights=weights, device=device, allow_code=allow_code, deploy=deploy)
    run = RunFolder(Path(source))
    if not run.card.is_file() or not run.checkpoints.is_dir():
        raise MissingFileError(f"{str(source)!r} is no run's folder: {weights} weights are in the checkpoints of one.")
    card = read_card(run.out)
    state, where = run.weights(weights), f"the {weights} weights of {str(run.out)!r}"
    entries, code = {name: entry_of(tensor) for name, tensor in state.items()}, Code(allow_code, (run.out,))
    network = build_fitting(card, entries, {}, where=where, code=code)
    fill(network, state, where=where)
    if isinstance(network, Network):
        network.class_names = card.class_names()
    if {4} <= {p.dim() for p in network.parameters()} <= {0, 1, 2, 3, 4}:
        network = network.to(memory_format=torch.channels_last)
    network = network.eval().to(pick_device(device))
    return Classifier(network, dataclasses.replace(card, temperature=_temperature_of(run, state)))


def _temperature_of(run: RunFolder, state: Mapping[str, Tensor]) -> float | None:
    """The temperature that the run fitted, where it did so for these very weights; None for others."""
    if not (run.model / CARD).is_file() or not (run.model / WEIGHTS).is_file():
        return None
    exported = read_card(run.model)
    if exported.temperature is None:
        return None
    kept = read_weights(run.model / WEIGHTS)
    given = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return exported.temperature if kept.keys() == given.keys() and all(torch.equal(kept[k], given[k]) for k in kept) else None
