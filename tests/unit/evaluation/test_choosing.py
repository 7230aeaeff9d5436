"""Which pictures: each once, the same for all, in an order that no model decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from torchbcos._core.errors import InputError
from torchbcos.evaluation.choosing import Chosen, Looked, choose_pictures, grids_of


def looked(count: int = 12, classes: int = 4, seed: int = 0, models: int = 2) -> Looked:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    logits = [3 * torch.randn(count, classes, generator=generator) + 4 * torch.eye(classes)[labels] for _ in range(models)]
    return Looked(tuple(range(100, 100 + count)), labels, tuple(logits), ("sigmoid", "softmax")[:models], (), ())


def test_pictures_are_those_that_all_models_get_right_and_are_sure_of() -> None:
    one = looked(60)
    chosen = choose_pictures(one, limit=100, confidence=0.9, seed=0)
    right = []
    for i in range(60):
        odds = [torch.sigmoid(one.logits[0][i]), one.logits[1][i].softmax(0)]
        if all(int(p.argmax()) == int(one.labels[i]) and float(p[one.labels[i]]) > 0.9 for p in odds):
            right.append(100 + i)
    assert sorted(chosen.rows.flatten().tolist()) == right and 0 < len(right) < 60
    assert torch.equal(chosen.labels.flatten(), one.labels[chosen.rows.flatten() - 100])
    assert any(f"allow {len(right)} pictures, not 100" in note for note in chosen.notes)


def test_classes_come_in_turn_and_fewer_are_the_first_of_more() -> None:
    one = looked(60)
    many, few = (choose_pictures(one, limit=limit, confidence=0, seed=3) for limit in (20, 7))
    assert torch.equal(many.rows[:7], few.rows) and not few.notes
    assert sorted(few.labels.flatten().tolist()[:4]) == [0, 1, 2, 3]
    assert torch.equal(choose_pictures(replace(one, logits=one.logits[::-1], probability=one.probability[::-1]), limit=7,
                                       confidence=0, seed=3).rows, few.rows)  # fmt: skip
    assert not torch.equal(choose_pictures(one, limit=7, confidence=0, seed=4).rows, few.rows)


def test_among_and_nothing_left() -> None:
    one = looked(60)
    some = set(choose_pictures(one, limit=5, confidence=0, seed=0).rows.flatten().tolist())
    assert (
        set(choose_pictures(one, limit=9, confidence=0, seed=0, among=some, which="with boxes").rows.flatten().tolist()) == some
    )
    with pytest.raises(InputError, match="None of 0 pictures with boxes is classified rightly"):
        choose_pictures(one, limit=5, confidence=0, seed=0, among=set(), which="with boxes")
    with pytest.raises(InputError, match="rightly and surer than 1 by all models"):
        choose_pictures(one, limit=5, confidence=0.99999999, seed=0)


def test_predicted_targets_are_each_models_own() -> None:
    one = looked(60)
    firsts = tuple(logits.argmax(1) for logits in one.logits)
    free = replace(one, labels=firsts[0], predicted=firsts)
    assert free.top1() == [None, None]
    pictures = choose_pictures(free, limit=60, confidence=0, seed=0)
    assert len(pictures.rows) == 60
    for own, target in zip(firsts, pictures.targets, strict=True):
        assert torch.equal(own[pictures.rows.flatten() - 100], target.flatten())
    grids = grids_of(free, 2, limit=20, confidence=0, seed=0)
    assert len(grids.rows.unique()) == grids.rows.numel()
    for target in grids.targets:
        assert all(len(set(row)) == 4 for row in target.tolist())
    assert grids.first(1).targets[1].shape == (1, 4)


def test_chosen_as_json() -> None:
    one = Chosen(torch.tensor([[3], [5]]), torch.tensor([[0], [1]]), ("a",), (torch.tensor([[7], [8]]),))
    again = Chosen.from_dict(one.to_dict())
    assert torch.equal(again.rows, one.rows) and torch.equal(again.targets[0], one.targets[0]) and again.notes == ("a",)
