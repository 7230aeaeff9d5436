"""A division that keeps examples together that belong together, whatever their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["split_groups"]


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
