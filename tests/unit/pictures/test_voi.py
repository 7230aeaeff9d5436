"""Windows by themselves: the ends, the middle, and values that overflow."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference.scans import windowed
from torchbcos.pictures.voi import FUNCTIONS, Window, as_numbers


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("width", [1.0, 1.5, 2.0, 400.0])
def test_windows_are_those_of_the_standard(function: str, width: float) -> None:
    values = np.concatenate([np.linspace(-300, 400, 1401), [-1e300, 1e300, 40 - width / 2, 39.5, 40 + width / 2 - 1]])
    wanted = [windowed(float(value), 40.0, width, function) for value in values]
    np.testing.assert_allclose(Window.of_file(40.0, width, function)(values), wanted, atol=1e-12)


def test_numbers_of_any_form() -> None:
    assert as_numbers("") == [] and as_numbers(np.float32(2)) == [2.0] and as_numbers((1, "2")) == [1.0, 2.0]
    with pytest.raises(ValueError, match="could not convert"):
        as_numbers("a")
