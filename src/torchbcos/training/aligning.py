"""`align`: a converted network learns from its teacher in a loop of one's own batches; `torchbcos train align` does more."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, shorten
from torchbcos._core.torch_private import original
from torchbcos.conversion import conversion_of
from torchbcos.conversion.steps import prefix_of
from torchbcos.functional import add_inverse
from torchbcos.training.alignment import AlignmentLoss, Points, check_convolutional, points_of
from torchbcos.training.optimisation import check_finite, move_average
from torchbcos.training.relative import RelativeAdam
from torchbcos.zoo.classifier import Classifier

__all__ = ["align"]

_LAST = 0.02  # of the rate, at the end of the cosine
_BEYOND = 0.2  # how far outside [0, 1] a cubic resize may put a pixel
_Watcher = Callable[[int, Mapping[str, float]], None]


def align(
    student: nn.Module, teacher: nn.Module, batches: Iterable[Tensor], *, lr: float = 1e-3, warmup: int = 60,
    steps: int | None = None, ema_decay: float = 0.99, features: float = 7.0, pooled: float = 3.0, logits: float = 1.0,
    temperature: float = 1.5, watch: _Watcher | None = None,
) -> nn.Module:  # fmt: skip
    """Teach a converted network to give what the network gives that it was made from: block by block, without labels.

    The loss is `features · mean ‖s - t‖² / ‖t‖² over blocks + pooled · (1 - cos(s, t)) + logits · KL(t ‖ s)`: outputs of blocks,
    what the classifiers take, and logits at a temperature (ours; the last term is of Hinton et al. 2015, arXiv 1503.02531). Both
    run in eval mode: no dropout, and norms keep their statistics. For convolutional networks.

    Args:
        student: that `torchbcos.bcosify` made of the teacher, or a classifier around it; its weights change.
        teacher: the given network, or a classifier around it; it is left as it is.
        batches: pictures (N, C, H, W) in [0, 1], before any normalisation, or encoded as [x, 1 - x]; each is used once, in order.
        lr: part of the size of the weights by which a step may change them (`RelativeAdam`).
        warmup: steps in which the rate rises.
        steps: after which the rate has fallen to a fiftieth, along a cosine, and training ends. None: the length of `batches`;
            where they have none, the rate stays.
        ema_decay: part of the averaged weights that each step keeps; the student has these at the end. 0: its own.
        features, pooled, logits, temperature: of the loss.
        watch: gets the number of each step and its losses: "loss", "features", "pooled", "logits".

    Returns:
        The student, in eval mode.

    Raises:
        InputError: the student was not made of the teacher, or has attention, or nothing of it learns; there are no batches, or
            one does not fit, or has values outside [0, 1]; a number is out of range.
        StateError: the loss is no number; the student has its averaged weights of before.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 4)).eval()
    >>> photos = torch.rand(8, 3, 16, 16)
    >>> student, _ = __import__("torchbcos").bcosify(net, b=1.5, example=photos, mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> seen = []
    >>> _ = align(student, net, [photos] * 30, warmup=5, watch=lambda step, losses: seen.append(losses["loss"]))
    >>> seen[-1] < seen[0]
    True
    """
    _check_numbers(lr, warmup, steps, ema_decay)
    mine, theirs = _network_of(student), _network_of(teacher)
    remembered = conversion_of(mine)
    if remembered is None:
        raise InputError("The student was not converted: torchbcos.bcosify(teacher, …) makes it.")
    if not torch.is_grad_enabled() or not any(p.requires_grad for p in mine.parameters()):
        raise InputError("Nothing would be learned: gradients are off here (torch.no_grad), or no weight of the student has any.")
    settings = remembered["settings"]
    normalise = bnn.Normalize(settings["mean"], settings["std"])
    total = steps if steps is not None else len(batches) if isinstance(batches, Sized) else None
    loss, optimizer = AlignmentLoss(features, pooled, logits, temperature), RelativeAdam(mine.parameters(), lr=lr)
    average = copy.deepcopy(mine).eval() if ema_decay else None
    points: Points | None = None
    done, mode = 0, theirs.training
    theirs.eval()
    try:
        for batch in batches:
            if total is not None and done >= total:
                break
            x, seen = _both(batch, normalise, len(settings["mean"]), mine)
            with _fitting(batch):
                if points is None:
                    check_convolutional(theirs, seen[:1])
                    points = points_of(theirs, mine.eval(), seen[:2], x[:2])
                parts = _parts(mine, theirs, points, loss, x, seen)
            whole = loss.total(parts)
            check_finite(whole, done)
            for group in optimizer.param_groups:
                group["lr"] = lr * _rate(done, total, warmup)
            optimizer.zero_grad()
            torch.autograd.backward(whole)
            optimizer.step()
            done += 1
            if average is not None:
                move_average(average, mine, 1 - min(ema_decay, (1 + done) / (10 + done)))
            if watch is not None:
                watch(done, {"loss": float(whole.detach()), **{name: float(part.detach()) for name, part in parts.items()}})
    finally:
        theirs.train(mode)
        if average is not None and done:
            mine.load_state_dict(average.state_dict())
        mine.eval()
    if not done:
        raise InputError("There are no batches to learn from.")
    return student


def _check_numbers(lr: float, warmup: int, steps: int | None, ema_decay: float) -> None:
    """Raise InputError where one is out of range."""
    wrong = {
        f"lr is a number above 0, not {lr!r}": not isinstance(lr, int | float) or not 0 < lr < math.inf,
        f"warmup is 0 or more steps, not {warmup!r}": not isinstance(warmup, int) or warmup < 0,
        f"steps is 1 or more, or None, not {steps!r}": steps is not None and (not isinstance(steps, int) or steps < 1),
        f"ema_decay is in [0, 1), not {ema_decay!r}": not isinstance(ema_decay, int | float) or not 0 <= ema_decay < 1,
    }
    for text, found in wrong.items():
        if found:
            raise InputError(f"{shorten(text, 160)}.")


@contextmanager
def _fitting(batch: Tensor) -> Iterator[None]:
    """What torch says of a batch that the networks do not take, as a sentence."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        if "out of memory" in str(error):
            raise
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"The networks do not take a batch of shape {tuple(batch.shape)}: {said}.") from error


def _network_of(model: nn.Module) -> nn.Module:
    """The network of a classifier, or the module itself.

    Raises:
        InputError: it is neither.
    """
    found = original(model.model if isinstance(model, Classifier) else model)
    if not isinstance(found, nn.Module):
        raise InputError(f"A student and a teacher are networks, or classifiers of torchbcos.load, not {type(model).__name__}.")
    return found


def _both(batch: Tensor, normalise: nn.Module, channels: int, student: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch as the student and as the teacher takes it.

    Raises:
        InputError: it is no batch of pictures of so many channels, or its values are no pixels.
    """
    if not isinstance(batch, Tensor) or batch.dim() < 3 or batch.shape[1] not in (channels, 2 * channels) or not len(batch):
        what = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
        raise InputError(f"A batch is pictures (N, {channels}, H, W) in [0, 1], without labels; got {shorten(str(what), 80)}.")
    if not batch.is_floating_point() or float(batch.min()) < -_BEYOND or float(batch.max()) > 1 + _BEYOND:
        bounds = f"{shorten(str(batch.dtype), 20)} from {float(batch.min()):.3g} to {float(batch.max()):.3g}"
        raise InputError(f"Pixels of a batch are numbers in [0, 1], before any normalisation; got {bounds}.")
    like = next(student.parameters())
    pixels = batch[:, :channels].to(like.device, like.dtype)
    return add_inverse(pixels), normalise(pixels)


def _parts(
    student: nn.Module, teacher: nn.Module, points: Points, loss: AlignmentLoss, x: Tensor, seen: Tensor
) -> dict[str, Tensor]:
    with torch.no_grad(), points.listening(teacher) as theirs:
        wanted = teacher(seen)
    with points.listening(student, prefix_of(student)) as mine:
        found = student(x)
    return loss.parts(mine, theirs, (found, wanted))


def _rate(done: int, total: int | None, warmup: int) -> float:
    """The rate of a step, as a part of the whole one."""
    warm = min(1.0, (done + 1) / max(1, warmup))
    return warm if not total else warm * (_LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * done / total)))
