"""Targets in every form, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchbcos._core.errors import InputError
from torchbcos._core.targets import as_integers, resolve_targets

OUTPUTS = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]])
FORMS = {
    "int": (2, [[2], [2]]), "numpy": (np.int64(2), [[2], [2]]), "N": ([0, np.int32(1)], [[0], [1]]),
    "array": (np.array([0, 1], dtype=np.uint64), [[0], [1]]), "tensor": (torch.tensor([0, 1], dtype=torch.uint8), [[0], [1]]),
    "N K": ([[0, 1], [2, 0]], [[0, 1], [2, 0]]), "sparse": (torch.tensor([0, 1]).to_sparse(), [[0], [1]]),
    "tensor of one": (torch.tensor(1), [[1], [1]]), "tuples": (((0,), (1,)), [[0], [1]]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    given, expected = FORMS[form]
    found = resolve_targets(given, OUTPUTS)
    assert found.tolist() == expected and found.dtype == torch.int64


@pytest.mark.parametrize("top_k", [np.int64(2), 2, torch.tensor(2)])
def test_the_highest(top_k: object) -> None:
    assert resolve_targets(None, OUTPUTS, top_k=top_k).tolist() == [[1, 2], [0, 2]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (True, "integers, not torch.bool"), ([True, 1], "integers, not torch.bool"), ([[0], [False]], "integers, not torch.bool"),
        (np.bool_(False), "integers, not torch.bool"), (np.array([True, False]), "integers, not torch.bool"),
        (1.0, "integers, not torch.float32"), ([0, 1j], "integers, not torch.complex64"), ("a", "must be an int"),
        ({0: 1}, "must be an int"), (2**70, "must be an int"), ([[0, 1], [2]], "must be an int"), ({1}, "must be an int"),
        (torch.tensor([0, 1], device="meta"), "must be an int"), ([0, 1, 2], "do not fit 2 images"),
        ([[], []], "do not fit 2 images"), ([-1, 0], "from 0 to 2"), ([0, 3], "not 3"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_refused(given: object, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        resolve_targets(given, OUTPUTS)
    assert len(str(caught.value)) <= 250


@pytest.mark.parametrize("top_k", [True, 0, 4, 1.0, "1", np.float64(1)])
def test_counts_that_are_refused(top_k: object) -> None:
    with pytest.raises(InputError, match="top_k must be an integer from 1 to 3"):
        resolve_targets(None, OUTPUTS, top_k=top_k)  # type: ignore[arg-type]


def test_a_long_list_is_not_printed_whole() -> None:
    with pytest.raises(InputError) as caught:
        as_integers(["x"] * 10_000)
    assert len(str(caught.value)) < 200
