"""What a two-stage network saw of a picture, and what it would say if it had seen something else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.functional.numbers import check_whole
from torchbcos.models.two_stage import TwoStage

__all__ = ["MovedSelection", "moved_selection"]


@dataclass(frozen=True)
class MovedSelection:
    """Logits of one class under selections other than the network's own.

    Attributes:
        target: the class.
        selection: (h, w) what the network sees.
        parts: (h, w) which part each patch is of; K for the background.
        value: the logit with the network's own selection.
        by_size: (T + 1,) the logit if the n patches with the largest margin over the background were seen, n from 0 to all T.
        by_shift: (2r + 1, 2r + 1) the logit if the selection were moved by that many patches down and to the right, from -r to r;
            what leaves the picture is lost. The middle is `value`.
        without_part: (K,) the logit if the part were background.
        swing: the range of `by_shift` where at least half of the selection stays in the picture: how far the answer hangs on
            where the network looked.
    """

    target: int
    selection: Tensor
    parts: Tensor
    value: float
    by_size: Tensor
    by_shift: Tensor
    without_part: Tensor
    swing: float


@torch.no_grad()
def moved_selection(model: nn.Module, x: Tensor, target: int, *, reach: int = 2, batch_size: int = 64) -> MovedSelection:
    """What a two-stage network would say had it looked elsewhere. The selection is not explained: this asks how much hangs on it.

    Args:
        model: a two-stage network (`torchbcos.create_model("two_stage_…")`).
        x: (1, C, H, W) one encoded picture.
        target: the class.
        reach: r, how many patches the selection is moved, at most.
        batch_size: selections at a time.

    Raises:
        InputError: the network is another one, x is not one picture, or there is no such class.

    >>> from torchbcos import create_model, functional
    >>> model = create_model("two_stage_nano", num_classes=3).eval()
    >>> moved = moved_selection(model, functional.add_inverse(torch.rand(1, 3, 64, 64)), 0, reach=1)
    >>> moved.by_size.shape, moved.by_shift.shape, moved.without_part.shape
    (torch.Size([65]), torch.Size([3, 3]), torch.Size([2]))
    """
    if not isinstance(model, TwoStage):
        raise InputError("A selection is asked of a two-stage network: torchbcos.create_model('two_stage_nano').")
    if x.dim() != 4 or len(x) != 1:
        raise InputError(f"Give one picture (1, C, H, W), not a tensor of shape {tuple(x.shape)}.")
    if not 0 <= target < max(1, model.num_classes):
        raise InputError(f"target must be from 0 to {model.num_classes - 1}, not {target}.")
    reach, step = check_whole(reach, "reach", least=0), check_whole(batch_size, "batch_size")
    found = model.assignment(x)[0]
    selection = model.selection(x)[0]
    margins = found[..., :-1].amax(-1) - found[..., -1]
    ranks = margins.flatten().argsort(descending=True, stable=True).argsort().reshape(selection.shape)
    sizes = [ranks < n for n in range(ranks.numel() + 1)]
    ways = range(-reach, reach + 1)
    shifts = [_moved(selection, down, right) for down in ways for right in ways]
    parts = found.shape[-1] - 1
    fewer = [model.selection(x, keep=[k for k in range(parts) if k != gone])[0] for gone in range(parts)]
    asked = torch.stack([selection, *sizes, *shifts, *fewer])
    values = torch.cat([model.look(x.expand(len(some), -1, -1, -1), some)[:, target] for some in torch.split(asked, step)])
    value, by_size, by_shift, without = torch.split(values, [1, len(sizes), len(shifts), parts])
    stays = torch.stack([2 * one.sum() >= selection.sum() for one in shifts])
    within = by_shift[stays]
    return MovedSelection(
        target, selection, found.argmax(-1).where(selection, torch.full_like(ranks, parts)), float(value), by_size,
        by_shift.reshape(len(ways), len(ways)), without, float(within.max() - within.min()),
    )  # fmt: skip


def _moved(selection: Tensor, down: int, right: int) -> Tensor:
    """A selection (h, w) moved; what comes in is not selected."""
    height, width = selection.shape
    padded = F.pad(selection, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return padded[top : top + height, left : left + width]
