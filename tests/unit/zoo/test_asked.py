"""Classes for pictures whose number is known only at the end: none is dropped, none is used twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos.zoo.asked import Asked


def walk(asked: Asked, pictures: int, batch: int) -> list[Any]:
    """What every picture gets, in batches."""
    rows: list[Any] = []
    for start in range(0, pictures, batch):
        count = min(batch, pictures - start)
        found = asked.rows(start, count, alone=pictures == 1)
        rows += [None] * count if found is None else found.tolist() if found.dim() else [int(found)] * count
    asked.check_all(pictures)
    return rows


@given(pictures=st.integers(1, 9), batch=st.integers(1, 4), given=st.integers(0, 9), k=st.sampled_from([None, 1, 2]))
def test_every_picture_gets_its_own_or_the_call_is_refused(pictures: int, batch: int, given: int, k: int | None) -> None:
    targets = np.arange(given * (k or 1)).reshape((given,) if k is None else (given, k))
    try:
        found = walk(Asked(targets), pictures, batch)
    except InputError:
        assert given != pictures and not (pictures == 1 and k is None and given > 0)
        return
    if pictures == 1 and k is None:
        assert found == [targets.tolist()]
    else:
        assert found == targets.tolist()


@pytest.mark.parametrize("one", [3, np.int64(3), torch.tensor(3)])
def test_one_class_is_for_all(one: object) -> None:
    assert walk(Asked(one), 3, 2) == [3, 3, 3] and walk(Asked(None), 2, 2) == [None, None]


@pytest.mark.parametrize("empty", [[], [[]], np.zeros((0, 2), np.int64)])
def test_an_empty_list_names_no_class(empty: object) -> None:
    with pytest.raises(InputError, match="contrast is empty"):
        Asked(empty, "contrast")


def test_the_messages_say_how_many_and_what_to_do() -> None:
    with pytest.raises(InputError, match=r"^targets of shape \(3,\) for 2 pictures: give one class for all, one a picture"):
        walk(Asked([0, 1, 2]), 2, 1)
    with pytest.raises(InputError, match=r"^contrast of shape \(2, 1\) for more than 2 pictures: "):
        walk(Asked([[0], [1]], "contrast"), 5, 2)
