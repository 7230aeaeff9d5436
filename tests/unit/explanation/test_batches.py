"""Two recordings become one graph for any number of images, or are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule, symbolic_trace

from torchbcos.explanation.batches import SIZES, for_any_batch


def traced(rows: int, size: int, *, more: bool = False, kept: float = 1.0) -> GraphModule:
    """A graph whose view has that size, as one that was recorded for so many rows would have."""
    constant = torch.full((2,), kept)

    def run(x: Tensor) -> Tensor:
        y = x.reshape([rows, size]) * 2
        return y.abs() if more else y + constant.sum()

    return symbolic_trace(run)


def test_sizes_that_differ_become_lines_in_the_number_of_images() -> None:
    def run(rows: int) -> GraphModule:
        def inner(x: Tensor) -> Tensor:
            return x.new_zeros([rows, 4 * rows + 1, 7 - rows]) + x.reshape([rows * 6]).sum()

        return symbolic_trace(inner)

    graph = run(SIZES[0])
    assert for_any_batch(graph, run(SIZES[1]))
    graph.graph.lint()
    graph.recompile()
    for n in (1, 2, 5):
        assert graph(torch.ones(n, 6)).shape == (n, 4 * n + 1, 7 - n)
        assert float(graph(torch.ones(n, 6)).max()) == 6 * n


def test_recordings_that_differ_in_more_than_sizes_are_no_such_pair() -> None:
    assert for_any_batch(traced(2, 4), traced(3, 4))
    assert for_any_batch(traced(2, 4), traced(2, 4))
    graph = traced(2, 4)
    before = graph.code
    for other in (traced(3, 4, more=True), traced(3, 4, kept=1.5)):
        assert not for_any_batch(graph, other)
    assert graph.code == before


@pytest.mark.parametrize(("a", "b"), [(2.0, 3.0), (True, False), ("a", "b")])
def test_numbers_that_are_no_sizes_must_be_the_same(a: object, b: object) -> None:
    def run(value: object) -> GraphModule:
        return symbolic_trace(lambda x: x.thing(value))

    assert for_any_batch(run(a), run(a))
    assert not for_any_batch(run(a), run(b))
