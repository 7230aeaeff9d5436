"""Evolution: fronts, crowding and hypervolume by definition, and a search that can be repeated and that ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import pruning as slow
from torchbcos._core.errors import InputError
from torchbcos.search.evolution import crowding, evolve, fronts, hypervolume, random_search

Aims = tuple[float, ...]
WAYS = pytest.mark.parametrize("way", [evolve, random_search])


def points(whole: bool, most: int = 12) -> st.SearchStrategy[list[Aims]]:
    """Candidates of one to four aims; whole numbers are often the same, others never are."""
    if whole:
        return st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 4).map(float)] * n), max_size=most))

    def spread(shape: tuple[int, int, int]) -> list[Aims]:
        generator = np.random.default_rng(shape[2])
        return [tuple(float(value) for value in row) for row in generator.random(shape[:2])]

    return st.tuples(st.integers(1, most), st.integers(1, 4), st.integers(0, 10_000)).map(spread)


@given(aims=st.one_of(points(True, 20), points(False, 20)))
def test_fronts_are_those_of_the_definition(aims: list[Aims]) -> None:
    found = fronts(aims)
    assert found == slow.fronts(aims)
    assert sorted(i for front in found for i in front) == list(range(len(aims)))


@given(aims=points(False))
def test_crowding_is_that_of_the_definition(aims: list[Aims]) -> None:
    assert crowding(aims) == pytest.approx(slow.crowding(aims), rel=1e-9)


def test_crowding_of_few_and_of_alike() -> None:
    assert crowding([]) == [] and crowding([(1.0, 2.0)]) == [math.inf]
    same = crowding([(1.0, 0.0), (1.0, 1.0), (1.0, 3.0)])
    assert same == [math.inf, 1.0, math.inf]  # an axis along which all are alike says nothing


@given(aims=points(False))
def test_fronts_and_crowding_are_those_of_pymoo(aims: list[Aims]) -> None:
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting").NonDominatedSorting()
    distance = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics").calc_crowding_distance
    assert fronts(aims) == [sorted(front.tolist()) for front in sorting.do(np.array(aims))]
    if len(aims) > 2:  # which takes the mean over the aims
        assert [one / len(aims[0]) for one in crowding(aims)] == pytest.approx(distance(np.array(aims)).tolist())


@given(aims=st.one_of(points(True, 7), points(False, 7)))
def test_hypervolume_is_the_sum_of_boxes(aims: list[Aims]) -> None:
    n = len(aims[0]) if aims else 2
    for reference in ((5.0,) * n, (0.7,) * n, tuple(1.0 + i for i in range(n))):
        assert hypervolume(aims, reference) == pytest.approx(slow.hypervolume(aims, reference), rel=1e-9, abs=1e-12)


@given(aims=points(False), seed=st.integers(0, 1000))
def test_hypervolume_grows_with_what_beats_more(aims: list[Aims], seed: int) -> None:
    reference = (1.0,) * len(aims[0])
    whole = hypervolume(aims, reference)
    assert whole >= hypervolume(aims[1:], reference) - 1e-12
    first = [aims[i] for i in fronts(aims)[0]]
    assert whole == pytest.approx(hypervolume(first, reference), rel=1e-9)
    assert whole == pytest.approx(hypervolume([tuple(reversed(one)) for one in reversed(aims)], reference), rel=1e-9)
    better = tuple(value * 0.5 for value in first[0])
    assert hypervolume([*aims, better], reference) > whole
    assert hypervolume([*aims, reference], reference) == pytest.approx(whole)  # no better than the reference


# -- searches ------------------------------------------------------------------------------------------------------------------


def toy(seed: int, aims: int = 2) -> Callable[[tuple[int, ...]], Aims]:
    """Scores as of a pruned network: what it costs, and what it gets wrong in steps of a few percent."""
    generator = np.random.default_rng(seed)
    weights = generator.random((aims, 40))

    def score(genes: tuple[int, ...]) -> Aims:
        cost = sum(genes) / (8 * len(genes))
        wrong = [round(sum(w / g for w, g in zip(row, genes, strict=False)) / sum(row[: len(genes)]), 1) for row in weights[1:]]
        return (cost, *wrong)

    return score


def beginning(genes: int, top: int = 8) -> list[tuple[int, ...]]:
    return [(s,) * genes for s in range(top, 0, -1)]


@WAYS
@settings(max_examples=10)
@given(genes=st.integers(3, 9), seed=st.integers(0, 10_000), evaluations=st.integers(8, 60), aims=st.integers(2, 3))
def test_a_search_counts_each_once_and_is_repeated_by_its_seed(
    way: Callable[..., dict[tuple[int, ...], Aims]], genes: int, seed: int, evaluations: int, aims: int
) -> None:
    asked: list[tuple[int, ...]] = []
    score = toy(seed, aims)

    def counted(one: tuple[int, ...]) -> Aims:
        asked.append(one)
        return score(one)

    found = way(counted, beginning(genes), top=8, evaluations=evaluations, seed=seed)
    assert asked == list(found) and len(set(asked)) == len(asked) == evaluations
    assert asked[:8] == beginning(genes)
    assert {len(one) for one in asked} == {genes} and {type(gene) for one in asked for gene in one} == {int}
    assert min(min(one) for one in asked) >= 1 and max(max(one) for one in asked) <= 8
    assert list(found.values()) == [score(one) for one in asked]
    assert list(way(score, beginning(genes), top=8, evaluations=evaluations, seed=seed).items()) == list(found.items())
    # fewer evaluations are the beginning of more: what a search that was stopped relies on
    short = way(score, beginning(genes), top=8, evaluations=max(4, evaluations // 2), seed=seed)
    assert list(short) == asked[: len(short)]


@WAYS
def test_another_seed_is_another_search(way: Callable[..., dict[tuple[int, ...], Aims]]) -> None:
    one, other = (list(way(toy(0), beginning(5), top=8, evaluations=30, seed=seed)) for seed in (0, 1))
    assert one[:8] == other[:8] and one != other


@WAYS
def test_fewer_evaluations_than_first_candidates(way: Callable[..., dict[tuple[int, ...], Aims]]) -> None:
    assert list(way(toy(0), beginning(4), top=8, evaluations=3, seed=0)) == beginning(4)[:3]


@WAYS
@pytest.mark.timeout(10)
@pytest.mark.parametrize(("genes", "top", "evaluations"), [(1, 8, 50), (2, 8, 200), (3, 8, 300), (2, 2, 4)])
@pytest.mark.parametrize("aims", [1, 2, 3])
def test_a_search_ends_where_few_or_all_candidates_are_looked_at(
    way: Callable[..., dict[tuple[int, ...], Aims]], genes: int, top: int, evaluations: int, aims: int
) -> None:
    asked: list[tuple[int, ...]] = []
    score = toy(1, aims)
    first = [*beginning(genes, top), (1,) * genes]
    found = way(lambda one: asked.append(one) or score(one), first, top=top, evaluations=evaluations, seed=0)  # type: ignore
    assert len(found) == min(evaluations, top**genes) and asked == list(found)


def volume(found: dict[tuple[int, ...], Aims]) -> float:
    return hypervolume(list(found.values()), (1.0, 1.5))


def test_evolution_finds_more_than_chance() -> None:
    """Two aims of twelve genes: each gene has a place where it is worth its cost."""

    def score(genes: tuple[int, ...]) -> Aims:
        return sum(genes) / 96, sum(abs(g - (8 if i % 3 == 0 else 1)) for i, g in enumerate(genes)) / 84

    shares = []
    for seed in range(5):
        ways = [way(score, beginning(12), top=8, evaluations=150, seed=seed) for way in (evolve, random_search)]
        shares.append(volume(ways[0]) - volume(ways[1]))
    assert min(shares) > 0.03


def test_the_best_of_a_generation_stay() -> None:
    """What is scored late stands mostly beside what was best early: parents are chosen, and children are near them."""

    def score(genes: tuple[int, ...]) -> Aims:
        return (float(sum(abs(g - 5) for g in genes)),)

    found = evolve(score, [(1,) * 6, (8,) * 6, (1, 8) * 3, (8, 1) * 3], top=8, evaluations=120, seed=0)
    late = [aims[0] for aims in list(found.values())[-20:]]
    assert min(late) <= 1 and sum(late) / len(late) < 5 < min(aims[0] for aims in list(found.values())[:4])


@pytest.mark.parametrize("first", [[], [(1, 2)], [(1, 2), (1, 2, 3)]])
def test_a_first_generation_that_is_none_is_refused(first: Sequence[tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match="at least two candidates, of one length"):
        evolve(lambda genes: (0.0,), first, top=8, evaluations=10)
