"""Evolution over several aims at once: NSGA-II (Deb et al. 2002), small. All aims are minimised.

Shapes: a candidate is a tuple of whole numbers from 1 to `top`, its aims a tuple of numbers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from torchbcos._core.errors import InputError

__all__ = ["crowding", "evolve", "fronts", "hypervolume", "random_search"]

_Genes = tuple[int, ...]
_Aims = tuple[float, ...]
_CROSSOVER = 0.9


def fronts(aims: Sequence[_Aims]) -> list[list[int]]:
    """Numbers of the candidates, by front: the first is beaten by nobody, the next only by those before it.

    One beats another that is nowhere better and somewhere worse (Deb et al. 2002, section III.A).

    >>> fronts([(1, 4), (2, 2), (3, 3), (4, 1)])
    [[0, 1, 3], [2]]
    """
    beaten_by = [sum(_beats(other, one) for other in aims) for one in aims]
    beats = [[j for j, other in enumerate(aims) if _beats(one, other)] for one in aims]
    found = []
    current = [i for i, count in enumerate(beaten_by) if count == 0]
    while current:
        found.append(current)
        following = []
        for i in current:
            for j in beats[i]:
                beaten_by[j] -= 1
                if beaten_by[j] == 0:
                    following.append(j)
        current = sorted(following)
    return found


def _beats(one: _Aims, other: _Aims) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def crowding(aims: Sequence[_Aims]) -> list[float]:
    """How alone each candidate of a front is: the sum of the sides of the box between its neighbours (section III.B).

    The ends of each aim are infinitely alone.

    >>> crowding([(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)])
    [inf, 2.0, inf]
    """
    found = [0.0] * len(aims)
    for axis in range(len(aims[0]) if aims else 0):
        order = sorted(range(len(aims)), key=lambda i: aims[i][axis])
        span = aims[order[-1]][axis] - aims[order[0]][axis]
        found[order[0]] = found[order[-1]] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            if span > 0:
                found[i] += (aims[after][axis] - aims[before][axis]) / span
    return found


def evolve(
    score: Callable[[_Genes], _Aims], first: Sequence[_Genes], *, top: int, evaluations: int, seed: int = 0
) -> dict[_Genes, _Aims]:  # fmt: skip
    """NSGA-II: uniform crossover of two parents (0.9), each gene one up or down with a chance of one over their number.

    Parents win a tournament of two, by front, then by crowding. The same seed and the same scores give the same search, so that
    one whose scores are kept can be repeated up to where it stopped.

    Args:
        score: the aims of a candidate.
        first: the first generation; so large is every other.
        top: the largest number of a gene; the least is 1.
        evaluations: candidates that are scored; each counts once.
        seed: of all that is drawn.

    Returns:
        All that were scored, in that order.

    Raises:
        InputError: the first generation is no two candidates of one length.
    """
    if len(first) < 2 or len({len(genes) for genes in first}) != 1:
        raise InputError("Evolution begins with at least two candidates, of one length.")
    generator = random.Random(seed)
    scored: dict[_Genes, _Aims] = {}
    _score_all(first, score, scored, evaluations)
    population = list(dict.fromkeys(genes for genes in first if genes in scored))
    while len(scored) < min(evaluations, top ** len(first[0])):
        children = _children(population, scored, len(first), top, generator)
        _score_all(children, score, scored, evaluations)
        both = list(dict.fromkeys([*population, *(child for child in children if child in scored)]))
        population = _best(both, scored, len(first))
    return scored


def random_search(
    score: Callable[[_Genes], _Aims], first: Sequence[_Genes], *, top: int, evaluations: int, seed: int = 0
) -> dict[_Genes, _Aims]:  # fmt: skip
    """The control: the same first candidates, then drawn ones; arguments and result as of `evolve`."""
    generator = random.Random(seed)
    scored: dict[_Genes, _Aims] = {}
    _score_all(first, score, scored, evaluations)
    while len(scored) < min(evaluations, top ** len(first[0])):
        _score_all([tuple(generator.randint(1, top) for _ in first[0])], score, scored, evaluations)
    return scored


def _score_all(wanted: Sequence[_Genes], score: Callable[[_Genes], _Aims], scored: dict[_Genes, _Aims], most: int) -> None:
    for genes in wanted:
        if genes not in scored and len(scored) < most:
            scored[genes] = tuple(float(aim) for aim in score(genes))


def _best(candidates: Sequence[_Genes], scored: dict[_Genes, _Aims], count: int) -> list[_Genes]:
    """The best so many: whole fronts, then the most alone of the front that does not fit."""
    kept: list[_Genes] = []
    for front in fronts([scored[genes] for genes in candidates]):
        alone = crowding([scored[candidates[i]] for i in front])
        order = sorted(range(len(front)), key=lambda i: -alone[i])
        kept += [candidates[front[i]] for i in order[: count - len(kept)]]
        if len(kept) == count:
            break
    return kept


def _children(
    population: Sequence[_Genes], scored: dict[_Genes, _Aims], count: int, top: int, generator: random.Random
) -> list[_Genes]:  # fmt: skip
    """So many new candidates."""
    aims = [scored[genes] for genes in population]
    rank, alone = {}, {}
    for number, front in enumerate(fronts(aims)):
        for i, distance in zip(front, crowding([aims[i] for i in front]), strict=True):
            rank[population[i]], alone[population[i]] = number, distance

    def winner() -> _Genes:
        one, other = generator.choice(population), generator.choice(population)
        return min(one, other, key=lambda genes: (rank[genes], -alone[genes]))

    found: list[_Genes] = []
    tries = 0
    while len(found) < count:
        tries += 1
        mother, father = winner(), winner()
        child = list(mother)
        if generator.random() < _CROSSOVER:
            child = [a if generator.random() < 0.5 else b for a, b in zip(mother, father, strict=True)]
        for i in range(len(child)):
            if generator.random() < 1 / len(child):
                child[i] = min(top, max(1, child[i] + generator.choice((-1, 1))))
        if tries > 20 * count:  # all that are near are known
            child = [generator.randint(1, top) for _ in child]
        if (tuple(child) not in scored and tuple(child) not in found) or tries > 1000 * count:
            found.append(tuple(child))
    return found


def hypervolume(aims: Sequence[_Aims], reference: _Aims) -> float:
    """Volume that candidates beat, up to a reference that is worse than all that count (While et al. 2006, by slices).

    >>> hypervolume([(1.0, 2.0), (2.0, 1.0)], (3.0, 3.0))
    3.0
    """
    inside = sorted({tuple(one) for one in aims if all(a < r for a, r in zip(one, reference, strict=True))})
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - inside[0][0]
    total = 0.0
    for i, one in enumerate(inside):
        end = inside[i + 1][0] if i + 1 < len(inside) else reference[0]
        if end > one[0]:
            total += (end - one[0]) * hypervolume([other[1:] for other in inside[: i + 1]], reference[1:])
    return total
