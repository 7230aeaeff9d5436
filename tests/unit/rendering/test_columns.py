from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import rendering as slow
from torchbcos.rendering.columns import column_sums, envelope, group_size


@given(st.integers(1, 300), st.integers(1, 60), st.sampled_from([1e-30, 1.0, 1e30]), st.integers(0, 999))
def test_columns_equal_the_slow_twin_and_lose_nothing(length: int, most: int, scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, length)) * scale
    group = group_size(length, most)
    (low, high), sums = envelope(values, group), column_sums(values, group)
    for row in range(2):
        want = np.array(slow.columns(values[row], group))
        np.testing.assert_array_equal(np.stack([low[row], high[row]], 1), want[:, :2])
        np.testing.assert_allclose(sums[row], want[:, 2], rtol=1e-9, atol=1e-12 * scale)
    assert low.shape[1] <= most and low.min() == values.min() and high.max() == values.max()
    np.testing.assert_allclose(sums.sum(1), values.sum(1), rtol=1e-9, atol=1e-10 * scale)


def test_one_peak_among_a_million_is_there() -> None:
    values = np.zeros(1_000_000, np.float32)
    values[777_777] = 3
    low, high = envelope(values, group_size(len(values), 1000))
    assert len(high) == 1000 and high.max() == 3 and high.argmax() == 777 and low.max() == 0
