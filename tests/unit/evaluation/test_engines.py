"""What the environment says of processes."""

from __future__ import annotations

import pytest

from torchbcos._core.errors import InputError
from torchbcos.evaluation.engines import ranks


@pytest.mark.parametrize("wrong", [("3", "3"), ("-1", "2"), ("0", "many"), ("", "1")])
def test_numbers_that_are_none_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="RANK and WORLD_SIZE"):
        ranks(dict(zip(("RANK", "WORLD_SIZE"), wrong, strict=True)))


def test_half_of_them_is_one_process() -> None:
    assert ranks({"RANK": "1"}) == ranks({"WORLD_SIZE": "4"}) == (0, 1)
