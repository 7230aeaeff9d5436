from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.explanation.test_result import explanation
from torchbcos._core.errors import InputError
from torchbcos.pictures import Seen

SEEN = [Seen(fit="crop", share=s, box=(0, 0, 1, 1)) for s in (0.1, 0.2, 0.3, 0.4)]
e = explanation(4, side=2).shown_with(titles=list("abcd"), seen=SEEN, photos=torch.rand(4, 3, 2, 2))


@given(st.one_of(
    st.slices(4), st.integers(-4, 3), st.lists(st.integers(-4, 3), max_size=6), st.lists(st.booleans(), min_size=4, max_size=4),
), st.sampled_from(["as it is", "numpy", "torch"]))  # fmt: skip
def test_images_are_chosen_as_numpy_chooses_rows(index: Any, form: str) -> None:
    rows = np.arange(4)
    if isinstance(index, list) and index:
        index = np.array(index) if form == "numpy" else torch.tensor(index) if form == "torch" else index
    elif isinstance(index, int) and form == "numpy":
        index = np.int16(index)
    elif isinstance(index, list):
        index = np.zeros(0, np.int64)
    want = np.atleast_1d(rows[index.numpy() if isinstance(index, torch.Tensor) else index]).tolist()
    part = e[index]
    assert list(part.titles) == ["abcd"[row] for row in want] and part.seen == tuple(SEEN[row] for row in want)
    assert torch.equal(part.weights, e.weights[want]) and torch.equal(part.constants["a.bias"], e.constants["a.bias"][want])
    assert (
        part.photos is not None and e.photos is not None and torch.equal(part.photos, e.photos[want]) and len(part) == len(want)
    )


def test_a_part_of_several_is_an_explanation() -> None:
    assert e[1:3].panel(1).size == e.panel(2).size and [one.titles for one in e[[3, 0]]] == [("d",), ("a",)]
    assert e[0:1].weights.data_ptr() == e.weights.data_ptr()  # a slice copies nothing


@pytest.mark.parametrize("index", [4, -5, True, 1.0, "a", None, [0, 4], [True, False], torch.tensor([[0]]), (0, 1.5), [None] * 4])
def test_there_is_no_such_image(index: Any) -> None:
    with pytest.raises(InputError, match="There are 4 explained images") as found:
        e[index]
    assert len(str(found.value)) <= 500
