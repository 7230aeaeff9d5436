"""Adam with steps relative to the size of weights: against a plain twin, across a checkpoint, and beside Adam."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchbcos.training.relative import RelativeAdam, sizes_of


def by_hand(p: torch.Tensor, gradients: list[torch.Tensor], lr: float) -> torch.Tensor:
    """Algorithm 1 of arXiv 1412.6980, number by number, its step times the size of the first weights' channel."""
    size, m, v = sizes_of(p), torch.zeros_like(p), torch.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p = p - lr * size * (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-10)
    return p


@given(
    shape=st.sampled_from([(3,), (4, 3), (2, 3, 3, 3)]), lr=st.floats(1e-4, 0.1), steps=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_it_is_the_algorithm(shape: tuple[int, ...], lr: float, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    p = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    gradients = [torch.randn(shape, dtype=torch.float64) for _ in range(steps)]
    wanted = by_hand(p.detach().clone(), gradients, lr)
    optimizer = RelativeAdam([p], lr=lr)
    for g in gradients:
        p.grad = g
        optimizer.step()
    torch.testing.assert_close(p.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_scaling_the_weights_scales_the_steps() -> None:
    torch.manual_seed(0)
    first = torch.randn(4, 5, dtype=torch.float64)
    moved = []
    for factor in (1.0, 1000.0):
        p = nn.Parameter(first * factor)
        optimizer = RelativeAdam([p], lr=0.01)
        for g in (torch.ones_like(p), -torch.ones_like(p).cumsum(0)):
            p.grad = g
            optimizer.step()
        moved.append((p.detach() - first * factor) / factor)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-6, atol=1e-12)


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_happened() -> None:
    torch.manual_seed(0)
    first, gradients = torch.randn(4, 5), [torch.randn(4, 5) for _ in range(6)]
    whole = nn.Parameter(first.clone())
    optimizer = RelativeAdam([whole], lr=0.01)
    for g in gradients:
        whole.grad = g
        optimizer.step()
    half = nn.Parameter(first.clone())
    before = RelativeAdam([half], lr=0.01)
    for g in gradients[:3]:
        half.grad = g
        before.step()
    resumed = nn.Parameter(first.clone())  # sizes are those of the weights that the run began with
    after = RelativeAdam([resumed], lr=0.01)
    with torch.no_grad():
        resumed.copy_(half)
    after.load_state_dict(before.state_dict())
    for g in gradients[3:]:
        resumed.grad = g
        after.step()
    assert torch.equal(whole, resumed)


def test_parameters_without_a_gradient_stand_still_and_a_closure_is_called() -> None:
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RelativeAdam([p, q], lr=0.1)

    def closure() -> torch.Tensor:
        loss = p.sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 2.0 and torch.equal(q.detach(), torch.ones(2)) and bool((p < 1).all())
