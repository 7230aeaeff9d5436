"""Learning from a teacher: its probabilities, and its explanations (e²KD)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.training.augment import pixels_of
from torchbcos.training.recipe import PROGRAM, Recipe
from torchbcos.zoo import load

TINY = 1e-12


def explanation_distance(mine: Tensor, theirs: Tensor) -> Tensor:
    """One minus the cosine between two explanations (e²KD; Parchami-Araghi et al. 2024, arXiv 2402.03119, eq. 2).

    Args:
        mine, theirs: (N, ...) contributions or weights.

    Returns:
        (N,).

    >>> float(explanation_distance(torch.ones(1, 4), 3 * torch.ones(1, 4)).round(decimals=4))
    0.0
    """
    return 1 - F.cosine_similarity(mine.flatten(1), theirs.flatten(1), dim=1, eps=TINY)


class Teacher:
    """The teacher of a recipe: a B-cos model of ours, or any classifier as an exported program.

    A program (`torch.export.save`, a .pt2 file) takes pixels (N, C, H, W) in [0, 1] and returns logits (N, classes), of which
    the softmax is taken; a model folder's card says which probability belongs to it.
    """

    def __init__(self, recipe: Recipe, multi_label: bool = False) -> None:
        self.recipe = recipe
        self.match = "bce" if multi_label else recipe.loss
        self.names: tuple[str, ...] = ()  # a program does not name its classes
        self.columns: Tensor | None = None  # of the data's classes
        if recipe.teacher.endswith(PROGRAM):
            self.network: nn.Module = load_program(Path(recipe.teacher))
            self.encode: Callable[[Tensor], Tensor] = lambda x: x
            self.probability = "softmax"
            self.terms: str | None = f"(program {Path(recipe.teacher).name!r}, on its maker's terms)"
        else:
            found = load(recipe.teacher, device="cpu")
            self.network, self.names, self.terms = found.model, found.class_names, found.card.terms
            self.encode = partial(found.transform.encode, dim=1)
            self.probability = found.card.probability
        self.run = torch.compile(self.network, dynamic=False) if recipe.compile else self.network

    def check_classes(self, classes: Sequence[str]) -> None:
        """Find the data's classes among the teacher's, which may be more and in another order.

        Raises:
            InputError: the teacher does not know some.
        """
        if not self.names:
            return
        unknown = [name for name in classes if name not in self.names]
        if unknown:
            theirs, own = (f"{len(names)} classes ({', '.join(names[:3])}, …)" for names in (self.names, classes))
            about = f"has {theirs}, the data {own}: it does not know {unknown[0]!r}"
            raise InputError(f"The teacher {self.recipe.teacher!r} {about}.")
        self.columns = torch.tensor([self.names.index(name) for name in classes])

    def loss(self, network: nn.Module, x: Tensor, logits: Tensor, order: Any) -> Tensor:
        """Match the teacher's probabilities and, for its favourite class, its explanation.

        Args:
            network: the student.
            x: (N, C, H, W) as the student sees it.
            logits: (N, classes) of the student.
            order: of the second derivative, as `create_graph` of `torchbcos.explain`.
        """
        recipe, seen = self.recipe, self.encode(pixels_of(x, self.recipe.plain))
        self.network.to(x.device)
        with torch.no_grad():
            theirs = self.answers(seen).float()
            columns = torch.arange(theirs.shape[1]) if self.columns is None else self.columns
            theirs = theirs[:, columns.to(x.device)]
        if theirs.shape != logits.shape:
            has, wanted = tuple(theirs.shape), tuple(logits.shape)
            raise InputError(f"The teacher {recipe.teacher!r} returns {has}, where the data's classes make logits of {wanted}.")
        loss = recipe.teacher_weight * matching_loss(logits, theirs, self.probability, self.match)
        if recipe.teacher_explanations:
            favourite = theirs.argmax(1)
            with torch.no_grad():
                wanted_maps = contribution_maps(self.network, seen, columns.to(x.device)[favourite])
            found = contribution_maps(network, x, favourite, create_graph=order)
            loss = loss + recipe.teacher_explanations * explanation_distance(found, wanted_maps).mean()
        return loss

    def answers(self, seen: Tensor) -> Tensor:
        """The teacher's logits.

        Raises:
            InputError: it does not take such pictures.
        """
        try:
            return cast(Tensor, self.run(seen))
        except (InputError, AssertionError, RuntimeError, ValueError) as error:
            if "out of memory" in str(error):
                raise
            said = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                f"The teacher {self.recipe.teacher!r} does not take a batch of shape {tuple(seen.shape)}: {said}. A program "
                "needs dynamic shapes (docs/how-to/guide.md)."
            ) from error


def matching_loss(logits: Tensor, theirs: Tensor, probability: str, loss: str) -> Tensor:
    """The student's own loss, cross-entropy or BCE, with the teacher's probabilities as targets.

    >>> sure = torch.tensor([[9.0, -9.0]])
    >>> [bool(matching_loss(sure, sure, p, l) < 0.01) for p in ("sigmoid", "softmax") for l in ("bce", "cross_entropy")]
    [True, True, True, True]
    """
    wanted = theirs.softmax(1) if probability == "softmax" else theirs.sigmoid()
    if loss == "cross_entropy":
        return F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True).clamp_min(TINY))
    return F.binary_cross_entropy_with_logits(logits, wanted)


def load_program(path: Path) -> nn.Module:
    """A classifier that `torch.export.save` wrote.

    Raises:
        MissingFileError: there is none.
        InputError: the file is something else.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no teacher {str(path)!r}.")
    try:
        return torch.export.load(path).module()
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        raise InputError(f"The teacher {str(path)!r} is no program of torch.export.save: {said}") from error
