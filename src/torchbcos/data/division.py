"""What is held out of labelled data, by a seed: examples that belong together stay together, whatever their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchbcos._core.names import quote
from torchbcos.data.labelled import Labelled, Split, split_rows
from torchbcos.data.loading import seed_of

__all__ = ["Division", "divide", "split_groups"]


@dataclass(frozen=True)
class Division:
    """Data in up to three parts.

    Attributes:
        train, selection, report: to train on, to choose by, to report; None where nothing is held out.
        together: whether byte-identical copies were kept on one side.
        notes: what a person should know of the division, a sentence each.
    """

    train: Split
    selection: Split | None
    report: Split | None
    together: bool
    notes: tuple[str, ...] = ()


def divide(data: Labelled, *, selection: float, report: float, seed: int, together: bool = True) -> Division:
    """Divide data by a seed: no example both chooses and is reported, nor a byte-identical copy or a scan of its patient.

    Args:
        data: the examples.
        selection: the share of what may be trained on that is held out to choose by.
        report: the share that is held out to report, where the data has no split of its own for it.
        seed: of a recipe.
        together: False divides as runs did that were begun when copies were not looked for.
    """
    train, reported = data.train if together else replace(data.train, twins=None), data.report
    together = train.twins is not None
    chosen, notes = None, list[str]()
    if reported is None and report:
        train, reported = _divided(train, report, seed_of(seed, 11) % 2**31, "to report", data.classes, notes)
    if selection:
        train, chosen = _divided(train, selection, seed_of(seed, 12) % 2**31, "to choose by", data.classes, notes)
    return Division(train, chosen or None, reported or None, together, tuple(notes))


def _divided(
    split: Split, share: float, seed: int, use: str, classes: Sequence[str], notes: list[str]
) -> tuple[Split, Split]:  # fmt: skip
    """What is left of a split, and the share that is held out of it; what a person should know of it is added to `notes`."""
    rest, held = split_groups(split.targets, share, seed, split.groups) if split.groups is not None else ([], [])
    if not held:
        rest, held = split_rows(split.targets, share, seed, split.twins)
        if split.groups is not None and {split.groups[i] for i in held} & {split.groups[i] for i in rest}:
            notes.append(
                f"{'Scans' if split.kin == 'patient' else 'Examples'} of one {split.kin} are both trained on and held out {use}: "
                f"there are too few {split.kin}s to hold some out. The result says little about other {split.kin}s."
            )
    elif split.targets.dim() == 1:
        there = set(split.targets[rest].tolist()) - set(split.targets[held].tolist())
        lacking = [classes[c] for c in sorted(there) if int((split.targets == c).sum()) > 1]
        if lacking:
            more = f" (and of {len(lacking) - 1:,} more)" if lacking[1:] else ""
            notes.append(f"Nothing of {quote(lacking[0])}{more} is held out {use}: all of it is of one {split.kin}.")
    return split.take(rest), split.take(held)


def split_groups(targets: Tensor, share: float, seed: int, groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """A seeded division: (rest, held out), about the share of every class (of the whole for multi-label targets).

    All examples of one group are on one side. Each class that more than one group has keeps examples on both sides where that can
    be; a class of one group alone stays in the rest. So nothing may be held out.

    Args:
        targets: (N,) classes, or (N, C) of several labels.
        share: that is to be held out.
        seed: of the order in which groups are tried.
        groups: one number an example.

    >>> split_groups(torch.tensor([0, 1, 0, 1, 0, 1]), 0.3, 0, [7, 7, 8, 8, 9, 9])
    ([0, 1, 2, 3], [4, 5])
    """
    classes = targets.tolist() if targets.dim() == 1 else [0] * len(targets)
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    sets = [members[group] for group in members]
    order = torch.randperm(len(sets), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = [Counter(classes[i] for i in part) for part in sets]
    chosen = _chosen(parts, order, share)
    held = sorted(i for k in chosen for i in sets[k])
    return sorted(set(range(len(classes))) - set(held)), held


def _chosen(parts: Sequence[Mapping[int, int]], order: Sequence[int], share: float) -> set[int]:
    """The groups that are held out: those that bring every class nearer to its share, and one for a class that has none."""
    total, held = Counter[int](), Counter[int]()
    for part in parts:
        total.update(part)
    wanted = {c: max(1, round(share * n)) if share > 0 and n > 1 else 0 for c, n in total.items()}
    chosen = set[int]()
    for k in order:
        if _fits(parts[k], held, total) and _gain(parts[k], held, wanted) > 0:
            chosen.add(k)
            held.update(parts[k])
    having: dict[int, list[int]] = {}
    for k in order:
        for c in parts[k]:
            having.setdefault(c, []).append(k)
    for c in sorted(total):
        fitting = [k for k in having[c] if _fits(parts[k], held, total)] if wanted[c] and not held[c] else []
        if fitting:
            k = min(fitting, key=lambda k: sum(parts[k].values()))
            chosen.add(k)
            held.update(parts[k])
    return chosen


def _fits(part: Mapping[int, int], held: Mapping[int, int], total: Mapping[int, int]) -> bool:
    """Whether each class keeps an example in the rest."""
    return all(held[c] + n < total[c] for c, n in part.items())


def _gain(part: Mapping[int, int], held: Mapping[int, int], wanted: Mapping[int, int]) -> float:
    """By how much the classes come nearer to what is wanted of them, each relative to that."""
    missing = ((wanted[c] - held[c], n, max(1, wanted[c])) for c, n in part.items())
    return sum((gap**2 - (gap - n) ** 2) / whole**2 for gap, n, whole in missing)
