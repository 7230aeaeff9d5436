"""Learning from a teacher: its probabilities, and its explanations (e²KD)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.pictures import Preprocess
from torchbcos.training.alignment import Points, points_of
from torchbcos.training.guidance import TINY
from torchbcos.training.recipe import PROGRAM, Recipe
from torchbcos.zoo import load
from torchbcos.zoo.program import load_program
from torchbcos.zoo.saveable import unwrapped

__all__ = ["Taught", "Teacher", "explanation_distance"]


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

    A program (`torch.export.save`, a .pt2 file) takes pixels (N, C, H, W) in [0, 1] and returns logits (N, classes), whose
    softmax is taken; a model folder's card says which probability belongs to it.

    Args:
        recipe: names the teacher.
        student: how the student's examples are encoded.
    """

    def __init__(self, recipe: Recipe, student: Preprocess) -> None:
        self.name, self.student = recipe.teacher, student
        self.names: tuple[str, ...] = ()  # a program does not name its classes
        self.said: dict[int, dict[int, int]] = {}  # its first class of each example of a split, by the split's id
        self.points: Points | None = None  # where its blocks are compared with the student's
        self.columns: Tensor | None = None  # of the data's classes among the teacher's; None: all, in their order
        if recipe.teacher.endswith(PROGRAM):
            self.network: nn.Module = load_program(Path(recipe.teacher))
            self.encode: Callable[[Tensor], Tensor] = lambda x: x
            self.probability = "softmax"
            self.terms: str | None = f"(program {Path(recipe.teacher).name!r}, on its maker's terms)"
        else:
            found = load(recipe.teacher, device="cpu", deploy=not recipe.aligns)
            self.network, self.names, self.terms = found.model, found.class_names, found.card.terms
            self.encode = partial(found.transform.encode, dim=1)
            self.probability = found.card.probability
            if recipe.aligns:
                self.network = unwrapped(self.network)
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
            raise InputError(f"The teacher {self.name!r} {about}.")
        self.columns = torch.tensor([self.names.index(name) for name in classes])

    @torch.no_grad()
    def look(self, x: Tensor, classes: int) -> Taught:
        """What the teacher says of a batch.

        Args:
            x: (N, C, H, W) as the student sees it.
            classes: of the data.

        Raises:
            InputError: it does not take such pictures, or returns logits of another shape.
        """
        seen = self.encode(self.student.decode(x))
        self.network.to(x.device)
        with self._listening() as heard:
            logits = self.answers(seen).float()
        columns = torch.arange(logits.shape[1]) if self.columns is None else self.columns
        columns = columns.to(x.device)
        logits = logits[:, columns]
        wanted = (len(x), classes)
        if logits.shape != wanted:
            about = f"returns {tuple(logits.shape)}, where the data's classes make logits of {wanted}"
            raise InputError(f"The teacher {self.name!r} {about}.")
        return Taught(self, seen, logits, columns, heard)

    def compare_with(self, student: nn.Module, x: Tensor) -> None:
        """Find where the student, which was made of this network, is compared with it.

        Args:
            student: it converted.
            x: (N, C, *S) as the student sees it.

        Raises:
            InputError: it was made of another network.
        """
        self.points = points_of(self.network, student, self.encode(self.student.decode(x)), x)

    def _listening(self) -> AbstractContextManager[dict[str, Tensor]]:
        return nullcontext({}) if self.points is None else self.points.listening(self.network)

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
                f"The teacher {self.name!r} does not take a batch of shape {tuple(seen.shape)}: {said}. A program "
                "needs dynamic shapes (docs/how-to/guide.md)."
            ) from error


@dataclass(frozen=True)
class Taught:
    """What a teacher says of one batch.

    Attributes:
        teacher: who says it.
        seen: (N, C, H, W) as it sees the batch.
        logits: (N, classes of the data).
        columns: (classes of the data,) among the teacher's.
        heard: what its blocks give, where the student's are compared with them.
    """

    teacher: Teacher
    seen: Tensor
    logits: Tensor
    columns: Tensor
    heard: Mapping[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def explained(self, classes: Tensor) -> Tensor:
        """Contributions (N, H, W) to a class of the data (N,) each."""
        return contribution_maps(self.teacher.network, self.seen, self.columns[classes])
