"""Max-sensitivity: against a slow twin, in closed form, and beside Captum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import removal as twin
from tests.reference.removal import Picture
from tests.unit.metrics.pictures import drawn, encoded, pixels
from torchbcos import BcosError
from torchbcos.functional.replace import noisy
from torchbcos.metrics import max_sensitivity

FEW = settings(max_examples=30, derandomize=True, deadline=None)


def squares(x: Tensor) -> Tensor:
    """An explanation that is not linear: (N, H, W)."""
    return (x * x * (1 + torch.arange(x.shape[1])).view(-1, *(1,) * (x.dim() - 2))).sum(1)


def squares_twin(x: Picture) -> list[float]:
    return [sum((c + 1) * v * v for c, v in enumerate(pixel)) for pixel in x]


def fields(x: Tensor, radius: float, samples: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(2 * torch.rand(1, *x.shape[1:], generator=generator) - 1) * radius for _ in range(samples)]


@FEW
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 3), h=st.integers(1, 3), samples=st.integers(1, 5),
    batch_size=st.integers(1, 7), radius=st.sampled_from([0.0, 0.02, 1.0]), six=st.booleans(),
)  # fmt: skip
def test_it_is_that_of_the_slow_twin(seed: int, n: int, h: int, samples: int, batch_size: int, radius: float, six: bool) -> None:
    x = encoded(seed, n, 1, h, 2) if six else 3 * drawn(seed, n, 2, h, 2) - 1
    found = max_sensitivity(
        squares, x, radius=radius, samples=samples, batch_size=batch_size, generator=torch.Generator().manual_seed(seed)
    )
    for i in range(n):
        moved = []
        for field in fields(x, radius, samples, seed):
            shift = field[0].double()
            if six:  # noise of the colour, cut at 0 and 1, and its inverse
                colour = (x[i, 0] + shift[0]).clamp(0, 1)
                moved.append(pixels(torch.stack([colour, 1 - colour])))
            else:
                moved.append(pixels(x[i] + shift))
        if bool(((x[i] >= 0) & (x[i] <= 1)).all()) and not six:
            continue  # a picture in [0, 1] by chance: cut, too
        assert float(found[i]) == pytest.approx(twin.max_sensitivity(squares_twin, pixels(x[i]), moved), abs=1e-9)


def test_closed_forms() -> None:
    x = drawn(0, 2, 3, 5, 5) + 2  # no picture in [0, 1]: nothing is cut
    w = torch.linspace(-1, 2, 75, dtype=torch.float64).view(3, 5, 5)
    assert max_sensitivity(lambda x: x * w, x, radius=0.0).tolist() == [0, 0]
    assert max_sensitivity(lambda x: torch.ones(len(x), 5, 5), x).tolist() == [0, 0]
    shift = fields(x, 0.1, 1, 0)[0].double()
    expected = [float((w * shift).norm() / (w * one).norm()) for one in x]
    found = max_sensitivity(lambda x: x * w, x, radius=0.1, samples=1)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert max_sensitivity(lambda x: torch.zeros(len(x), 5, 5), x).isnan().all()
    several = max_sensitivity(lambda x: x * w, x, radius=0.1, samples=6)
    each = [[float((w * s.double()).norm() / (w * one).norm()) for s in fields(x, 0.1, 6, 0)] for one in x]
    assert several.tolist() == pytest.approx([max(row) for row in each], abs=1e-12)
    assert several.tolist() != pytest.approx([sum(row) / 6 for row in each], rel=1e-3)  # a mean is another number


def test_it_is_that_of_captum() -> None:
    captum = pytest.importorskip("captum.metrics")
    x = drawn(3, 3, 2, 4, 4) + 2
    shifts = iter(fields(x, 0.3, 5, 0))

    def explain(inputs: Tensor | tuple[Tensor, ...]) -> Any:
        return (squares(inputs[0]),) if isinstance(inputs, tuple) else squares(inputs)

    wanted = captum.sensitivity_max(
        explain, x, lambda x: x + next(shifts).double(), n_perturb_samples=5, max_examples_per_batch=3
    )
    assert torch.allclose(max_sensitivity(squares, x, radius=0.3, samples=5), wanted, rtol=1e-9)


def test_noise_is_of_colours_and_nobody_else_counts() -> None:
    x, seen = encoded(0, 3, 3, 6, 6).float(), []

    def explain(batch: Tensor) -> Tensor:
        seen.append(batch)
        return squares(batch)

    state = torch.get_rng_state()
    whole = max_sensitivity(explain, x, radius=0.4)
    assert max(float((b[:, :3] + b[:, 3:] - 1).abs().max()) for b in seen) <= 1e-6
    assert all(float(b.min()) >= 0 and float(b.max()) <= 1 for b in seen)
    assert torch.equal(seen[0], x) and torch.equal(seen[1][:3], noisy(x, fields(x, 0.4, 1, 0)[0], clamp=True))
    alone = torch.cat([max_sensitivity(squares, x[i : i + 1], radius=0.4, batch_size=4) for i in range(3)])
    assert torch.allclose(whole, alone, rtol=1e-6) and torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(whole, max_sensitivity(squares, x, radius=0.4, generator=torch.Generator().manual_seed(1)))


def test_explanations_with_gradients_and_one_class_a_picture() -> None:
    x, targets = drawn(0, 3, 2, 4, 4), torch.tensor([2, 0, 1])

    def gradients(batch: Tensor, classes: Tensor) -> Tensor:
        batch = batch.clone().requires_grad_()
        scores = torch.stack([(batch**k).flatten(1).sum(1) for k in (2, 3, 4)], 1)
        return torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), batch, create_graph=True)[0]

    found = max_sensitivity(gradients, x, targets=targets, batch_size=4, samples=3)
    assert not found.requires_grad
    for i in range(3):
        alone = max_sensitivity(lambda b, i=i: gradients(b, targets[i].expand(len(b))), x[i : i + 1], samples=3)
        assert float(found[i]) == pytest.approx(float(alone), rel=1e-9)


X = drawn(0, 2, 3, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -0.1}, "radius must be 0 or more"),
        ({"radius": "small"}, "radius must be a number"),
        ({"samples": 0}, "samples must be 1 or more"),
        ({"batch_size": -1}, "batch_size must be 1 or more"),
        ({"explain": lambda x: x[0]}, r"explain gave \(3, 4, 4\) for 2 pictures"),
        ({"explain": lambda x: x.flatten(1).sum(1)}, r"explain gave \(2,\)"),
        ({"explain": lambda x: x / 0}, "explain gave numbers that are not finite"),
        ({"explain": lambda x: [x]}, "explain gave a list"),
        ({"explain": lambda x: torch.ones(len(x), 1 + len(x))}, r"explain gave \(3,\) for pictures, and \(17,\) for noisy ones"),
        ({"targets": torch.tensor([1])}, "targets must be 2 whole numbers"),
        ({"x": X.long()}, "of floating point"),
    ],
)
def test_what_has_no_sensitivity(change: dict[str, Any], message: str) -> None:
    given = {"explain": squares, "x": X, **change}
    with pytest.raises(BcosError, match=message):
        max_sensitivity(given.pop("explain"), given.pop("x"), **given)
