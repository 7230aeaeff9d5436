"""Which examples are measured, and their targets in the model's order."""

from __future__ import annotations

import pytest
import torch

from torchbcos._core.errors import InputError
from torchbcos.data import Labelled, Split
from torchbcos.evaluation.splits import choose_split, match_classes


def split(names: str) -> Split:
    return Split(list(names), torch.zeros(len(names), dtype=torch.int64), lambda i: None, tuple(range(len(names))))


ALONE, DIVIDED = Labelled(("x", "y"), split("abcdef")), Labelled(("x", "y"), split("abcd"), split("ef"))
HELD_OUT = {"selection": ["b"], "report": ["e", "c"]}


@pytest.mark.parametrize(
    ("data", "wanted", "names", "called"),
    [
        (ALONE, "val", "ce", "report"), (ALONE, "train", "abcdef", "all"), (ALONE, "all", "abcdef", "all"),
        (ALONE, "selection", "b", "selection"), (ALONE, "report", "ce", "report"),
        (DIVIDED, "val", "ef", "val"), (DIVIDED, "train", "abcd", "train"), (DIVIDED, "selection", "b", "selection"),
    ],
)  # fmt: skip
def test_splits_by_name(data: Labelled, wanted: str, names: str, called: str) -> None:
    chosen, what = choose_split(data, wanted, HELD_OUT)
    assert ("".join(chosen.names), what) == (names, called)


def test_splits_that_are_not_there() -> None:
    assert choose_split(ALONE, "val")[1] == "all"
    for data, wanted, message in (
        (ALONE, "vall", "There is no split 'vall': choose val, train, all, selection, report"),
        (ALONE, "report", "No example of this data was held out as 'report'"),
        (DIVIDED, "all", "'all' is for data without a split of its own"),
    ):
        with pytest.raises(InputError, match=message):
            choose_split(data, wanted)


def test_targets_in_the_models_order() -> None:
    classes, names = ("cat", "dog", "fox"), ("fox", "ape", "dog", "cat")
    targets = torch.tensor([0, 1, 2, 0])
    assert [names[i] for i in match_classes(targets, classes, names)] == [classes[i] for i in targets]
    wide = match_classes(torch.eye(3), classes, names)
    assert wide.isnan().tolist() == [[False, True, False, False]] * 3  # the data does not say which pictures show an ape
    assert wide.nan_to_num(9).tolist() == [[0, 9, 0, 1], [0, 9, 1, 0], [1, 9, 0, 0]]
    with pytest.raises(InputError, match=r"knows no class 'dgo', the data has it \(1 such\)\. Did you mean 'dog'"):
        match_classes(targets, ("cat", "dgo"), names)


def test_files_of_both_parts_go_by_the_same_names() -> None:
    """What a run reported of the data's own 'val' was looked for among the training files first, and found there."""
    data = Labelled(("x", "y"), split("abcd"), split("ab"))
    chosen, _ = choose_split(data, "report", {"selection": ["b"], "report": ["a", "b"]})
    assert data.report is not None and chosen.rows == data.report.rows and chosen.reader is data.report.reader
    chosen, _ = choose_split(data, "selection", {"selection": ["b"], "report": ["a", "b"]})
    assert chosen.reader is data.train.reader and chosen.rows == (1,)


def test_letters_composed_in_two_ways_are_one_class() -> None:
    assert match_classes(torch.tensor([0, 1]), ["a", "\u00e9"], ["e\u0301", "a"]).tolist() == [1, 0]
    assert match_classes(torch.eye(2), ["a", "\u00e9"], ["e\u0301", "a"]).tolist() == [[0, 1], [1, 0]]
