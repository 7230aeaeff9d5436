"""Learning rates, optimisers, clipping, mixing of pictures, and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.errors import StateError
from torchbcos._core.optional import require
from torchbcos.training.recipe import OptimisationSettings, PictureSettings
from torchbcos.training.relative import RelativeAdam

__all__ = [
    "Mixer", "average_of", "check_finite", "clip_gradients", "make_optimizer", "move_average", "rate_factor", "set_rates",
    "targets_of", "update_average",
]  # fmt: skip


def targets_of(y: Tensor, classes: int) -> Tensor:
    """Targets (N, C): one-hot for classes (N,), floats otherwise."""
    return F.one_hot(y, classes).float() if y.dim() == 1 else y.float()


def rate_factor(step: int, per_epoch: int, recipe: OptimisationSettings) -> float:
    """The learning rate of a step, as a multiple of `recipe.lr`.

    Warm-up is linear from `warmup_start`; then cosine to `lr_end`, a factor `gamma` every `step_size` epochs, or
    `gamma` an epoch. With `schedule_by="epoch"` the rate changes at the beginning of epochs only.

    >>> [round(1e-3 * rate_factor(e, 1, OptimisationSettings(warmup_epochs=5, schedule_by="epoch")), 7) for e in (0, 1, 5, 6)]
    [1e-05, 0.000208, 0.001, 0.0009997]
    """
    by_epoch = recipe.schedule_by == "epoch"
    at = float(step // per_epoch) if by_epoch else step / per_epoch
    warm = recipe.warmup_steps / per_epoch if recipe.warmup_steps else recipe.warmup_epochs
    if at < warm:
        return recipe.warmup_start + (1 - recipe.warmup_start) * at / warm
    if recipe.schedule == "cosine":
        low = recipe.lr_end / recipe.lr if recipe.lr else 0.0
        share = min(1.0, (at - warm) / max(1e-9, recipe.epochs - warm))
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share))
    if recipe.schedule == "step":
        return float(recipe.gamma ** math.floor((at - warm) / recipe.step_size))
    return float(recipe.gamma ** (at - warm)) if recipe.schedule == "exponential" else 1.0


def make_optimizer(model: nn.Module, recipe: OptimisationSettings, head: set[int]) -> torch.optim.Optimizer:
    """The optimiser of a recipe; the parameters of the classifier (by id) form the group with `head` true."""
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for p in model.parameters():
        parts.setdefault((id(p) in head, recipe.decay_all or p.dim() > 1), []).append(p)
    groups = [
        {"params": part, "head": own, "decays": decayed, "weight_decay": recipe.weight_decay if decayed else 0.0}
        for (own, decayed), part in sorted(parts.items(), key=lambda item: item[0])
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "relative_adam":
        return RelativeAdam(groups, lr=recipe.lr)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, step: int, per_epoch: int, recipe: OptimisationSettings) -> None:
    """Give every group of parameters the learning rate of a step."""
    rate = recipe.lr * rate_factor(step, per_epoch, recipe)
    for group in optimizer.param_groups:
        group["lr"] = rate * (recipe.head_lr if group["head"] else 1.0)


def clip_gradients(parameters: Iterable[nn.Parameter], recipe: OptimisationSettings) -> None:
    """Clip in place: "agc" bounds each filter's gradient by its own norm (Brock et al. 2021, arXiv 2102.06171, eq. 3)."""
    own = [p for p in parameters if p.grad is not None]
    if recipe.clip == "agc":
        agc: Any = require("timm.utils.agc", extra="train", why="adaptive gradient clipping")
        agc.adaptive_clip_grad(own, clip_factor=recipe.clip_value, eps=1e-3)
    elif recipe.clip == "norm":
        nn.utils.clip_grad_norm_(own, recipe.clip_value)


class Mixer:
    """Mixup (arXiv 1710.09412) and CutMix (1905.04899) of encoded batches; where both are on, one is drawn a batch."""

    def __init__(self, recipe: PictureSettings, classes: int) -> None:
        self.kinds: list[Any] = []
        if recipe.mixup or recipe.cutmix:
            v2 = require("torchvision.transforms.v2", extra="train", why="mixing pictures")
            made = ((recipe.mixup, v2.MixUp), (recipe.cutmix, v2.CutMix))
            self.kinds = [kind(alpha=alpha, num_classes=classes) for alpha, kind in made if alpha]
        self.chance = recipe.mix_chance

    def __call__(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, C, H, W) and targets (N, classes), mixed or as they are; draws from torch's generator."""
        if not self.kinds or x.dim() != 4 or len(x) < 2 or float(torch.rand(())) >= self.chance:
            return x, targets
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
        mixed: tuple[Tensor, Tensor] = kind(x, targets)
        return mixed


def average_of(model: nn.Module, recipe: OptimisationSettings) -> nn.Module | None:
    """The network that will hold averaged weights and buffers, or None where the recipe has none."""
    return copy.deepcopy(model).requires_grad_(False).eval() if recipe.ema_decay else None


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, per_epoch: int, recipe: OptimisationSettings) -> None:
    """One step of the average: it follows the network until `ema_from_epoch`, then moves by 1 - decay.

    With `ema_scaled` that is (1 - decay) · batch_size · ema_every / epochs, as in torchvision's references. Otherwise
    the decay grows as (1 + t) / (10 + t), so that a short run is not an average with its random start.
    """
    if step % recipe.ema_every:
        return
    done = step // recipe.ema_every
    if recipe.ema_scaled:
        weight = min(1.0, (1 - recipe.ema_decay) * recipe.batch_size * recipe.ema_every / recipe.epochs)
    else:
        weight = 1 - min(recipe.ema_decay, (1 + done) / (10 + done))
    if step <= recipe.ema_from_epoch * per_epoch:
        weight = 1.0
    move_average(average, model, weight)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, weight: float) -> None:
    """Move averaged weights and buffers towards a network's, by this part of the way; whole numbers become the network's."""
    for mine, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs.to(mine.dtype), weight)
        else:
            mine.copy_(theirs)


def check_finite(loss: Tensor, step: int) -> None:
    """Stop at the first loss that is no number.

    Raises:
        StateError: it is NaN or infinite.
    """
    if not bool(torch.isfinite(loss.detach()).all()):
        raise StateError(
            f"The loss became {float(loss.detach()):g} at step {step}; the last good checkpoint is kept. Try a smaller lr, "
            "clip='norm' with clip_value=1, or precision='32'; the same command with other --set values goes on from there."
        )
