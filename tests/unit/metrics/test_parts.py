"""Parts of a picture: sums in their masks, thresholds, sets that tell classes apart, against plain loops and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import birds as twin
from torchbcos._core.errors import InputError
from torchbcos.metrics import (
    BIRD_THRESHOLDS,
    contrasting_classes,
    important_parts,
    minimal_part_sets,
    part_importance,
)
from torchbcos.metrics.parts import subset_codes

forms = st.integers(2, 5).flatmap(
    lambda parts: st.lists(st.lists(st.integers(0, 2), min_size=parts, max_size=parts), min_size=2, max_size=7)
)


def named(classes: list[list[int]]) -> list[dict[str, int]]:
    return [{str(p): form for p, form in enumerate(row)} for row in classes]


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 5]))
def test_importance_equals_the_twin(seed: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 7, 9, generator=generator, dtype=torch.float64)
    masks = torch.rand(2, 3, 7, 9, generator=generator) < 0.06
    found = part_importance(maps, masks, groups=[1, 0, 1], dilation=dilation)
    for n in range(2):
        for part, regions in enumerate(([1], [0, 2])):
            wanted = twin.importance(maps[n].tolist(), [masks[n, r].tolist() for r in regions], dilation)
            assert found[n, part].item() == pytest.approx(wanted, abs=1e-12)
    alone = part_importance(maps[:1], masks[:1], groups=[1, 0, 1], dilation=dilation)
    assert torch.equal(alone, found[:1])
    shared = part_importance(maps, masks[:1], groups=[1, 0, 1], dilation=dilation)
    assert torch.equal(shared, part_importance(maps, masks[:1].expand(2, -1, -1, -1), groups=[1, 0, 1], dilation=dilation))


def test_halves_that_grow_into_each_other_count_twice() -> None:
    """As in the official code: the part is not the union of its regions."""
    maps, masks = torch.ones(1, 5, 9), torch.zeros(1, 2, 5, 9, dtype=torch.bool)
    masks[0, 0, 2, 3] = masks[0, 1, 2, 5] = True
    assert part_importance(maps, masks, groups=[0, 0]).item() == 50
    assert part_importance(maps, masks).tolist() == [[25, 25]]


def test_signs_count_and_what_is_not_seen_is_nothing() -> None:
    maps, masks = torch.tensor([[[2.0, -5.0], [0.5, 0.0]]]), torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    masks[0, 0] = True
    assert part_importance(maps.half(), masks).tolist() == [[-2.5, 0.0]]


def test_thresholds_are_shares_of_the_sum() -> None:
    assert len(BIRD_THRESHOLDS) == 80 and BIRD_THRESHOLDS[0] == 0.01 and BIRD_THRESHOLDS[-1] == pytest.approx(0.5)
    importance = torch.tensor([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, torch.nan]])
    found = important_parts(importance, torch.tensor([10.0, 10.0]), [0.05, 0.1, 0.35, 0.4])
    assert subset_codes(found).tolist() == [[15, 7, 1, 0], [7, 7, 1, 0]]  # at its share itself a part is not important


def test_a_negative_sum_turns_the_test() -> None:
    found = important_parts(torch.tensor([[0.0, -0.5, -2.0]]), torch.tensor([-10.0]), [0.1])
    assert found.tolist() == [[[True, True, False]]]


@given(forms)
def test_sets_and_pairs_equal_the_twin(classes: list[list[int]]) -> None:
    sets, pairs = minimal_part_sets(torch.tensor(classes)), contrasting_classes(torch.tensor(classes))
    for label in range(len(classes)):
        found = {frozenset(str(p) for p in row.nonzero().flatten().tolist()) for row in sets[label]}
        assert found == {frozenset(s) for s in twin.minimal_sets(named(classes), label)}
        assert len(found) == len(sets[label])
        pair = twin.rivals(named(classes), label)
        assert pairs[label].tolist() == (list(pair) if pair else [-1, -1])


def test_the_last_class_has_its_sets_too() -> None:
    """The official code finds none for the last class of the file."""
    assert minimal_part_sets(torch.tensor([[0, 0], [1, 1]]))[1].tolist() == [[True, False], [False, True]]


def test_two_classes_with_the_same_parts_have_no_set() -> None:
    sets = minimal_part_sets(torch.tensor([[0, 1], [0, 1], [1, 1]]))
    assert [tuple(found.shape) for found in sets] == [(0, 2), (0, 2), (1, 2)]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: part_importance(torch.ones(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)), "not .1, 4, 4. and .1, 4, 4."),
    (lambda: part_importance(torch.ones(1, 4, 4), torch.ones(1, 1, 4, 5, dtype=torch.bool)), "same size"),
    (lambda: part_importance(torch.ones(1, 4, 4), torch.ones(1, 1, 4, 4)), "are bool"),
    (lambda: part_importance(torch.full((1, 4, 4), torch.nan), torch.ones(1, 1, 4, 4).bool()), "not finite"),
    (lambda: part_importance(torch.ones(1, 4, 4), torch.ones(1, 1, 4, 4).bool(), dilation=4), "odd"),
    (lambda: part_importance(torch.ones(1, 4, 4), torch.ones(1, 1, 4, 4).bool(), groups=[0, 1]), "each of the 1 regions"),
    (lambda: important_parts(torch.ones(2, 3), torch.ones(3)), "totals"),
    (lambda: minimal_part_sets(torch.rand(2, 3)), "int64"),
    (lambda: minimal_part_sets(torch.zeros(2, 13).long()), "at most 12"),
    (lambda: contrasting_classes(torch.zeros(0, 3).long()), "Expected classes"),
])  # fmt: skip
def test_what_cannot_be_is_said(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
