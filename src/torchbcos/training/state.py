"""What changes while a run trains: exactly what a checkpoint holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import WeightsError
from torchbcos.training.kept import Kept, fill_network, fill_optimizer
from torchbcos.training.machine import half_of
from torchbcos.training.network import head_of
from torchbcos.training.optimisation import average_of, make_optimizer
from torchbcos.training.recipe import Recipe

__all__ = ["SCALER", "State"]

SCALER = "MixedPrecision"  # Lightning's name of a loss scaler: checkpoints of versions that trained with its Trainer have it


@dataclass
class State:
    """A run between two steps. Everything random in a step comes from a seed of its number, so no generator is kept.

    Attributes:
        network: that learns.
        average: with the averaged weights, if the recipe has them.
        optimizer: of the network.
        scaler: of losses in half precision.
        done: optimiser steps.
        best: "score" on the selection split and "epoch" of the best weights.
        loss_sum, losses: of this epoch.
        failures: a sentence for every example that could not be read.
        seconds: that the run took before this process.
        began: when this process began.
        calibrated: the step whose averaged weights have norm statistics of their own; not kept.
    """

    network: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    done: int = 0
    best: dict[str, Any] = field(default_factory=lambda: {"score": float("-inf")})
    loss_sum: float = 0.0
    losses: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    began: float = field(default_factory=time.time)
    calibrated: int = -1

    @classmethod
    def fresh(cls, network: nn.Module, recipe: Recipe, device: torch.device) -> State:
        """The state before the first step, on a device."""
        average = average_of(network, recipe)
        if average is not None:
            average = average.to(device)
        network = network.to(device)
        scaler = torch.amp.GradScaler(device.type, enabled=half_of(recipe.precision, device) is torch.float16)
        return cls(network, average, make_optimizer(network, recipe, head_of(network)), scaler)

    @property
    def loss(self) -> float:
        """Mean of this epoch so far."""
        return self.loss_sum / max(1, self.losses)

    def elapsed(self) -> float:
        """Seconds that the run took so far."""
        return self.seconds + time.time() - self.began

    def note_loss(self, loss: Tensor) -> None:
        """Count the loss of one part of a step."""
        self.loss_sum, self.losses = self.loss_sum + float(loss.detach()), self.losses + 1

    def new_epoch(self) -> None:
        """Forget the losses of the epoch before."""
        self.loss_sum, self.losses = 0.0, 0

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(t.isfinite().all()) for t in self.network.state_dict().values() if t.is_floating_point())

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values: `torch.load` reads them with `weights_only=True`."""
        networks = {"network.": self.network} | ({"average.": self.average} if self.average is not None else {})
        weights = {prefix + key: value for prefix, part in networks.items() for key, value in part.state_dict().items()}
        return {
            "state_dict": weights,
            "optimizer_states": [self.optimizer.state_dict()],
            **({SCALER: self.scaler.state_dict()} if self.scaler.is_enabled() else {}),
            "torchbcos": {
                "done": self.done, "best": self.best, "seconds": self.elapsed(), "losses": [self.loss_sum, self.losses],
                "failures": self.failures,
            },
        }  # fmt: skip

    def restore(self, checkpoint: Mapping[str, Any], where: str = "The checkpoint") -> None:
        """Go on from a checkpoint; what decides how it learns on is the recipe's, not what was saved with the optimiser.

        Args:
            checkpoint: whoever wrote it.
            where: it was, for the message.

        Raises:
            WeightsError: it is none, or another network's or optimiser's.
        """
        kept = Kept.of(checkpoint)
        weights: Mapping[str, Tensor] = {str(key): value for key, value in checkpoint["state_dict"].items()}
        for prefix, part in (("network.", self.network), ("average.", self.average)):
            if part is not None:
                fill_network(part, {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}, where)
        fill_optimizer(self.optimizer, checkpoint["optimizer_states"][0], where)
        if checkpoint.get(SCALER):
            try:
                self.scaler.load_state_dict(checkpoint[SCALER])
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise WeightsError(f"{where} holds no loss scaler ({type(error).__name__}).") from error
        self.done, self.best, self.seconds = kept.done, kept.best, kept.seconds
        self.loss_sum, self.losses, self.failures = kept.loss_sum, kept.losses, kept.failures
