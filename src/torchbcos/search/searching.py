"""A search that can be stopped at any time: every scored candidate is written down, and a repeated search goes on from there."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.metrics import compose_grids, grid_pointing
from torchbcos.search.evolution import evolve, fronts, random_search
from torchbcos.search.pruning import STEPS, Pruner, digest_of

__all__ = ["AIMS", "Candidate", "Judge", "Search", "front_of", "search"]

AIMS = ("flops", "accuracy", "localisation")
_BATCH = 50
_GRID = 2


@dataclass(frozen=True)
class Candidate:
    """A pruned network that was looked at.

    Attributes:
        steps: eighths of each group that stay.
        flops: share of the operations of the given network.
        accuracy: share of the pictures of the judge that are right, before any training.
        localisation: mean score of 2 x 2 grid pointing; None where it was not asked for.
    """

    steps: tuple[int, ...]
    flops: float
    accuracy: float
    localisation: float | None = None

    def aims(self, names: Sequence[str] = AIMS) -> tuple[float, ...]:
        """What is minimised."""
        known = {"flops": self.flops, "accuracy": 1 - self.accuracy, "localisation": 1 - (self.localisation or 0.0)}
        return tuple(known[name] for name in names)


@dataclass(frozen=True)
class Judge:
    """By what candidates are judged: pictures with labels, none of which a layer was fitted to.

    Attributes:
        x: (N, C, H, W) encoded pictures. y: (N,) their classes.
        grids: 2 x 2 grids, of pictures of four classes each, for the localisation; 0: it is not measured.
        seed: of the grids.
    """

    x: Tensor
    y: Tensor
    grids: int = 60
    seed: int = 0

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Share of the pictures whose class has the largest logit."""
        right = [network(x).argmax(1) == y for x, y in zip(torch.split(self.x, _BATCH), torch.split(self.y, _BATCH), strict=True)]
        return float(torch.cat(right).double().mean())

    def localisation(self, network: nn.Module) -> float | None:
        """Mean share of the positive contributions that lie in the cell of their class, over grids of pictures in their own
        size."""
        if not self.grids:
            return None
        numbers, cells = self._drawn()
        scores = []
        for chosen, own in zip(torch.split(numbers, _BATCH // 4), torch.split(cells, _BATCH // 4), strict=True):
            drawn = compose_grids(self.x[chosen], _GRID, rescale=True)
            classes = self.y[chosen].gather(1, own[:, None])[:, 0]
            scores.append(grid_pointing(contribution_maps(network, drawn, classes).detach(), own, n=_GRID))
        return float(torch.cat(scores).nan_to_num(0.25).double().mean())

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """(G, 4) pictures of four classes, and (G,) the cell that is asked for."""
        generator = torch.Generator().manual_seed(self.seed)
        classes = torch.unique(self.y)
        if len(classes) < _GRID**2:
            raise InputError(f"Grids need pictures of four classes, and these are of {len(classes)}: leave localisation out.")
        rows = []
        for _ in range(self.grids):
            four = classes[torch.randperm(len(classes), generator=generator)[: _GRID**2]]
            of = [(self.y == one).nonzero()[:, 0] for one in four]
            rows.append(torch.stack([one[torch.randint(len(one), (), generator=generator)] for one in of]))
        return torch.stack(rows), torch.randint(_GRID**2, (self.grids,), generator=generator)

    def digest(self) -> str:
        """Of its pictures and labels."""
        return digest_of(self.x, self.y)

    def look(self, pruner: Pruner, steps: tuple[int, ...]) -> Candidate:
        """Build a candidate, and judge it."""
        network = pruner.build(steps)
        share = pruner.flops(steps) / pruner.flops()
        return Candidate(steps, share, self.accuracy(network), self.localisation(network))


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        candidates: all that were looked at, in that order.
        aims: what was asked for, of `AIMS`.
    """

    candidates: tuple[Candidate, ...]
    aims: tuple[str, ...]

    def front(self) -> list[Candidate]:
        """Candidates that no other beats, by their operations."""
        return front_of(self.candidates, self.aims)

    def best(self, flops: float) -> Candidate:
        """The most accurate of the front within a share of the operations; with localisation, of its sum with accuracy.

        Raises:
            StateError: none is that small.
        """
        fitting = [one for one in self.front() if one.flops <= flops]
        if not fitting:
            least = min(one.flops for one in self.candidates)
            raise StateError(f"No candidate does with {flops:.0%} of the operations; the smallest needs {least:.0%}.")
        return max(fitting, key=lambda one: one.accuracy + (one.localisation or 0.0) * ("localisation" in self.aims))


def front_of(candidates: Sequence[Candidate], aims: Sequence[str] = AIMS) -> list[Candidate]:
    """Those that no other beats, by their operations."""
    if not candidates:
        return []
    numbers = fronts([one.aims(aims) for one in candidates])[0]
    return sorted((candidates[i] for i in numbers), key=lambda one: one.flops)


def search(
    pruner: Pruner,
    judge: Judge,
    *,
    population: int = 16,
    evaluations: int = 200,
    seed: int = 0,
    journal: Path | None = None,
    control: bool = False,
    told: Callable[[Candidate, int], None] | None = None,
) -> Search:
    """Look for networks that are small, right, and look at the right things.

    The first generation has uniform widths, from all eighths to one, and neighbours of them.

    Args:
        pruner: makes candidates.
        judge: judges them; without grids there are two aims.
        population: candidates in a generation.
        evaluations: candidates in all.
        seed: of all that is drawn.
        journal: a file to which each candidate is appended as it is scored. If it is there, what it holds is not scored again: a
            search that was killed comes to the same front.
        control: random search instead, from the same first candidates.
        told: is told each candidate, with its number from 1.

    Raises:
        InputError: a number is too small.
        StateError: the journal is of another search.
    """
    if population < 4 or evaluations < population:
        raise InputError(
            f"A search needs a population of at least 4 and as many evaluations, not {population} and {evaluations}."
        )
    aims = AIMS if judge.grids else AIMS[:2]
    identity = {
        "groups": [[group.name, group.size] for group in pruner.groups], "population": population, "seed": seed,
        "control": control, "repair": pruner.repair, "ranking": pruner.ranking, "pictures": len(judge.y), "grids": judge.grids,
        "given": [pruner.digest, judge.digest()],
    }  # fmt: skip
    known = _read(journal, identity)
    candidates: dict[tuple[int, ...], Candidate] = {}

    def score(steps: tuple[int, ...]) -> tuple[float, ...]:
        found = known.get(steps)
        if found is None:
            found = judge.look(pruner, steps)
            _append(journal, found)
        candidates[steps] = found
        if told is not None:
            told(found, len(candidates))
        return found.aims(aims)

    way = random_search if control else evolve
    way(score, _first(len(pruner.groups), population), top=STEPS, evaluations=evaluations, seed=seed)
    return Search(tuple(candidates.values()), aims)


def _first(genes: int, population: int) -> list[tuple[int, ...]]:
    """Uniform widths from all to the least, and between them those whose one half is a step narrower or wider."""
    count = min(population, STEPS)
    uniform = [(STEPS - round(i * (STEPS - 1) / (count - 1)),) * genes for i in range(count)]
    half = genes // 2
    between = [
        tuple(s if (i < half) == late else min(STEPS, max(1, s + way)) for i in range(genes))
        for way in (-1, 1)
        for late in (True, False)
        for s in (4, 5, 3, 6, 2, 7)
    ]
    found = dict.fromkeys([*uniform, *between])
    generator = random.Random(0)  # the same for every seed
    while len(found) < min(population, STEPS**genes):
        found[tuple(generator.randint(1, STEPS) for _ in range(genes))] = None
    return list(found)[:population]


def _read(journal: Path | None, identity: Mapping[str, object]) -> dict[tuple[int, ...], Candidate]:
    """What a journal holds; a last line that was cut off is left out."""
    if journal is None:
        return {}
    wanted = json.loads(json.dumps(identity))
    if not journal.exists():
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text(json.dumps(wanted) + "\n")
        return {}
    text = journal.read_text("utf-8", errors="replace")
    lines = text[: text.rfind("\n") + 1].split("\n")[:-1]  # whole ones
    if not lines and json.dumps(wanted).startswith(text):  # it was stopped while its first line was written
        journal.write_text(json.dumps(wanted) + "\n")
        return {}
    try:
        if json.loads(lines[0]) != wanted:
            raise StateError(f"{journal} is of another search: give another folder, or the arguments that it was begun with.")
    except (IndexError, json.JSONDecodeError):
        raise StateError(f"{journal} is no journal of a search: give another folder.") from None
    found = {}
    whole = [lines[0]]
    for line in lines[1:]:
        try:
            one = _candidate(json.loads(line))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            break
        found[one.steps] = one
        whole.append(line)
    if len(whole) < len(lines) or not text.endswith("\n"):
        journal.write_text("".join(line + "\n" for line in whole))
    return found


def _candidate(row: Mapping[str, Any]) -> Candidate:
    """A line of a journal."""
    steps, place = row["steps"], row["localisation"]
    if not all(type(step) is int for step in steps) or type(place) not in (float, int, type(None)):
        raise ValueError(f"no candidate: {row}")
    return Candidate(tuple(steps), row["flops"] + 0.0, row["accuracy"] + 0.0, place)


def _append(journal: Path | None, one: Candidate) -> None:
    """A line, on the disk before the search goes on."""
    if journal is None:
        return
    with journal.open("a") as file:
        file.write(json.dumps(vars(one)) + "\n")
        file.flush()
        os.fsync(file.fileno())
