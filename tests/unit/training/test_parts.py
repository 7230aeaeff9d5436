"""Losses that make parts; their twins are in tests/unit/models/test_selecting.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchbcos
from tests.unit.models.test_two_stage import make, pictures
from torchbcos.training import parts


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**16), k=st.integers(1, 4), sides=st.sampled_from([(4, 4), (3, 5), (1, 2)]))
def test_losses_are_finite_with_gradients_and_least_where_they_should_be(seed: int, k: int, sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, *sides, k + 1, generator=generator, dtype=torch.float64, requires_grad=True)
    shares = scores.softmax(-1)
    found = [f(shares) for f in (parts.presence, parts.total_variation, parts.entropy, parts.background_at_border)]
    (gradient,) = torch.autograd.grad(sum(found[1:], found[0]), scores)
    assert all(float(one.detach()) >= 0 for one in found) and bool(gradient.isfinite().all()) and bool(gradient.any())
    sure = torch.nn.functional.one_hot(shares.argmax(-1), k + 1).double()
    assert float(parts.entropy(sure)) == 0 <= float(parts.entropy(shares.detach()))
    alike = shares[:, :1, :1].detach().expand_as(shares)
    assert float(parts.total_variation(alike)) == 0


def test_the_published_orthogonality_compares_something_else() -> None:
    vectors = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
    assert float(parts.orthogonality(vectors)) == 0
    same = vectors[:, :1].expand(-1, 3, -1)
    assert float(parts.orthogonality(same)) == pytest.approx(6 / 9)
    assert float(parts.orthogonality(same, of="features")) != pytest.approx(float(parts.orthogonality(same)))
    with pytest.raises(torchbcos.BcosError, match="parts or features"):
        parts.orthogonality(vectors, of="both")


def test_a_map_that_turns_with_the_picture_costs_nothing() -> None:
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64)
    shares = torch.stack([ramp.expand(9, 9), 1 - ramp.expand(9, 9)], -1)[None]
    still = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    around = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]], dtype=torch.float64)  # by 180 degrees
    assert float(parts.equivariance(shares, shares, still)) == pytest.approx(0, abs=1e-12)
    assert float(parts.equivariance(shares, shares.flip(1, 2), around)) == pytest.approx(0, abs=1e-12)
    assert float(parts.equivariance(shares, shares, around)) > 0.1


def test_the_term_trains_the_first_stage_and_refuses_other_networks() -> None:
    x = pictures(4)
    model = make().train()
    batch = SimpleNamespace(x=x, targets=torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]])
    term = parts.PartDiscovery(2.0)
    term.term(SimpleNamespace(network=model, batch=batch)).backward()  # type: ignore[no-untyped-call]
    for parameter in (model.where.parts.vectors, model.part_scores.linear.weight, next(model.where.source.parameters())):
        assert parameter.grad is not None and bool(parameter.grad.any())
    assert next(model.what.parameters()).grad is None and term.weight == 2.0
    other = torchbcos.create_model("resnet18", width_factor=0.125, num_classes=3)
    with pytest.raises(torchbcos.BcosError, match="this is a ResNet: set parts=0"):
        term.term(SimpleNamespace(network=other, batch=batch))
