"""Constants are measured as `y + constant · probe` would measure them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchbcos.kernels.named import Named, total_of, totals_of

_SHAPES = [
    ((2, 3, 4, 5), (1, 3, 1, 1)), ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (4, 5)), ((6, 7), (7,)), ((6, 3, 7), (3, 7)),
    ((6, 3, 7), (6, 3, 1)), ((6, 3, 7), ()), ((4, 70, 80), (70, 80)), ((2, 5), (2, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "constant"), _SHAPES)
@pytest.mark.parametrize("images", [1, 2])
def test_a_total_is_the_derivative_of_the_written_out_sum(shape: tuple[int, ...], constant: tuple[int, ...], images: int) -> None:
    torch.manual_seed(0)
    g, c = torch.randn(shape, dtype=torch.float64), torch.randn(constant, dtype=torch.float64)
    probe = torch.zeros(images, dtype=torch.float64, requires_grad=True)
    rows = probe.repeat_interleave(shape[0] // images).reshape(-1, *[1] * (len(shape) - 1))
    (wanted,) = torch.autograd.grad(((c * rows).expand(shape) * g).sum(), probe)
    assert torch.allclose(total_of(g, c, probe), wanted, rtol=1e-12, atol=1e-12)


def test_one_sum_of_the_gradient_serves_all_constants_of_one_shape() -> None:
    g, probe = torch.randn(2, 3, 4, 4), torch.zeros(2)
    one, two, whole = torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1), torch.randn(4, 4)
    found = totals_of(g, [one, two, whole], [probe] * 3, [True, True, False])
    assert found[2] is None
    for total, constant in zip(found, (one, two), strict=False):
        assert total is not None and torch.allclose(total, total_of(g, constant, probe))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_what_is_handed_through_keeps_its_order(order: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=order).requires_grad_()
    probe, constant = torch.zeros(2, requires_grad=True), torch.randn(1, 3, 1, 1)
    y: Tensor = Named.apply(x * 2, 1, constant, probe)
    assert y.is_contiguous(memory_format=order)
    gradient, total = torch.autograd.grad(y.square().sum(), [x, probe])
    assert gradient.is_contiguous(memory_format=order)
    assert torch.allclose(total, (2 * y * constant).flatten(1).sum(1), rtol=1e-4)
