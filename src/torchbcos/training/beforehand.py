"""What can be known before a network is trained, and would otherwise end the run when it is: looked at first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchbcos import zoo
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos._core.names import quote
from torchbcos.data.labelled import Labelled
from torchbcos.data.labels import never_known
from torchbcos.explanation.looking import objection
from torchbcos.runs import RunFolder
from torchbcos.training.context import Run
from torchbcos.training.kept import Kept
from torchbcos.training.plan import Splits
from torchbcos.training.recipe import Recipe
from torchbcos.training.state import State

__all__ = ["check_card", "check_classes", "check_export", "check_places", "exported", "rehearse"]


def check_places(folder: RunFolder) -> None:
    """Refuse a folder in which a run could not write what it writes at its end.

    Raises:
        InputError: the path leads nowhere, or to a file.
        StateError: a file of a run is a folder there, or the other way round.
    """
    try:
        os.stat(folder.out)
    except (FileNotFoundError, NotADirectoryError):  # what is in the way is named when the folder is made
        return
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no folder can have this name"
        raise InputError(f"--out {quote(folder.out)} cannot be a run's folder: {reason}.") from None
    if not folder.out.is_dir():
        raise InputError(f"--out {quote(folder.out)} is a file: a run writes a folder. Choose another --out.")
    files = (folder.recipe, folder.report, folder.history, folder.splits, folder.card, folder.last, folder.previous, folder.best)
    for path in files:
        if path.is_dir():
            raise StateError(f"{quote(path)} is a folder, where a run writes a file: move it away, or choose another --out.")
    for path in (folder.tensorboard, folder.model, folder.checkpoints):
        if path.exists() and not path.is_dir():
            raise StateError(f"{quote(path)} is a file, where a run has a folder: move it away, or choose another --out.")


def check_classes(data: Labelled, source: os.PathLike[str]) -> None:
    """Refuse data of one class, or with a label of which nothing is known: there is nothing to learn.

    Raises:
        InputError: there is one class and no second label could hold instead, or a label without any known value.
    """
    unknown = never_known(data.classes, data.train.targets)
    if unknown:
        more = f" (and of {len(unknown) - 1:,} more)" if unknown[1:] else ""
        raise InputError(
            f"No example to train on in {quote(source)} says whether {unknown[0]!r} holds{more}: there is nothing to learn. "
            "Leave out its column, or add examples that know."
        )
    if len(data.classes) < 2 and not data.multi_label:
        names = quote(data.classes[0]) if data.classes else "none"
        raise InputError(
            f"{quote(source)} has one class alone ({names}), from which there is nothing to learn: two are needed at least."
        )


def exported(recipe: Recipe, splits: Splits) -> str:
    """Which weights a run exports: "ema", "best" or "last"."""
    if recipe.export != "auto":
        return recipe.export
    return "ema" if recipe.ema_decay else "best" if splits.selection is not None else "last"


def check_export(run: Run, checkpoint: Mapping[str, Any] | None) -> None:
    """Refuse to export best weights that no epoch can choose, or that are gone already.

    Raises:
        InputError: nothing is held out to choose by.
        WeightsError: an earlier part of the run chose them, and their file cannot be read.
    """
    if exported(run.recipe, run.splits) != "best":
        return
    if run.splits.selection is None:
        raise InputError("export='best' needs pictures to choose by, and none are held out: set a larger selection_share.")
    if checkpoint is not None and "epoch" in Kept.of(checkpoint).best:
        run.folder.read_best()


def check_card(card: zoo.Card) -> None:
    """Refuse what the model's card could not say, so that the model could not be opened: class names, for example.

    Raises:
        InputError: the card that the run would write cannot be read.
    """
    try:
        zoo.Card.from_dict(json.loads(json.dumps(card.to_dict())), where="its card")
    except BcosError as error:
        raise InputError(f"The model of this run could not be opened: {error} Nothing was trained.") from None


def rehearse(run: Run, state: State) -> None:
    """One example of those that judge, through the network as it will be judged; and whether it can be explained, too.

    Raises:
        InputError: the network does not take it, or returns logits of another shape.
    """
    judging = next((split for _, split in run.splits.held_out() if split), None)
    split = run.splits.train if judging is None else judging
    try:
        x, _, _ = run.chosen(run.examples(split), [0])
    except BcosError:
        return  # a file that cannot be read: what becomes of it is the recipe's on_error, when its turn comes
    wanted = (len(x), len(run.data.classes))
    with torch.random.fork_rng(devices=[]):
        found = wanted if judging is None else _answer(state.network, x)
    if found != wanted:
        raise InputError(f"The network returns {found} for one example of shape {tuple(x.shape)}, not logits of {wanted}.")
    if (why := objection(state.network, x)) is not None:
        run.say(f"This network trains, but explain does not explain it exactly: {why}")


def _answer(network: nn.Module, x: torch.Tensor) -> tuple[int, ...]:
    """The shape of what a network returns in eval mode; each of its modules is left in the mode that it was in.

    Raises:
        InputError: it does not take this.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            output = network.eval()(x)
        return tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
        if isinstance(error, BcosError) or "out of memory" in str(error):
            raise
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"The network does not take the examples that judge it, {tuple(x.shape)}: {said}.") from error
    finally:
        for module, mode in modes:
            module.training = mode
