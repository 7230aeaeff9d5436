"""Losses, rates, clipping and averages against plain float64 twins and the official numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchbcos._core.errors import StateError
from torchbcos.training import Recipe, find_recipe
from torchbcos.training.optimisation import (
    Mixer,
    average_of,
    check_finite,
    clip_gradients,
    make_optimizer,
    rate_factor,
    targets_of,
    update_average,
)


def test_rates_of_the_official_recipe() -> None:
    recipe = find_recipe("bcos_final-resnet50")
    found = [1e-3 * rate_factor(epoch * 7 + 3, 7, recipe) for epoch in (0, 1, 2, 3, 4, 5, 6, 89)]
    official = [1e-5, 2.08e-4, 4.06e-4, 6.04e-4, 8.02e-4, 1e-3, 9.997e-4, 3.4e-7]
    assert found == pytest.approx(official, rel=2e-2)
    assert found[:6] == pytest.approx(official[:6], rel=1e-9)


@given(step=st.integers(0, 500), warm=st.integers(0, 20))
def test_rates_by_step(step: int, warm: int) -> None:
    cosine = Recipe(epochs=50, warmup_steps=warm, lr_end=1e-4, lr=1e-2)
    found = rate_factor(step, 10, cosine)
    if step < warm:
        assert found == pytest.approx(0.01 + 0.99 * step / warm)
    else:
        share = (step - warm) / (500 - warm)
        assert found == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    assert rate_factor(step, 10, Recipe(epochs=50, schedule="step", step_size=20, gamma=0.5)) == 0.5 ** (step // 200)
    assert rate_factor(step, 10, Recipe(epochs=50, schedule="exponential", gamma=0.9)) == pytest.approx(0.9 ** (step / 10))
    assert rate_factor(step, 10, Recipe(epochs=50, schedule="constant")) == 1


def test_adaptive_clipping_bounds_each_filter_by_its_norm() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]]))
    weight.grad = torch.tensor([[30.0, 40.0], [3.0, 4.0], [0.003, 0.004]])
    clip_gradients([weight], Recipe(clip="agc"))
    expected = [[0.03, 0.04], [0.6e-5, 0.8e-5], [0.003, 0.004]]  # 0.01 · 5; 0.01 · eps; below its bound of 0.01
    torch.testing.assert_close(weight.grad, torch.tensor(expected))
    weight.grad = torch.full_like(weight, 2.0)
    clip_gradients([weight], Recipe(clip="norm", clip_value=1.0))
    assert float(weight.grad.norm()) == pytest.approx(1.0, rel=1e-4)


def test_averages_follow_then_move_by_the_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    recipe = Recipe(ema_decay=0.75, ema_every=2, ema_from_epoch=1)
    average = average_of(model, recipe)
    assert average is not None and average_of(model, Recipe()) is None
    expected = 0.0
    for step in range(1, 101):
        model.weight.data.fill_(float(step))
        update_average(average, model, step, 4, recipe)
        if step % 2 == 0:
            done = step // 2
            weight = 1.0 if step <= 4 else 1 - min(0.75, (1 + done) / (10 + done))
            expected += weight * (step - expected)
    assert float(average.weight) == pytest.approx(expected, rel=1e-5)
    official = Recipe(ema_decay=0.99998, ema_every=32, ema_scaled=True, batch_size=1024, epochs=600)
    average.weight.data.fill_(0.0)
    model.weight.data.fill_(1.0)
    update_average(average, model, 320, 1, official)
    assert float(average.weight) == pytest.approx(1.0923e-3, rel=1e-3)


def test_averages_take_buffers_and_do_not_learn() -> None:
    model = nn.BatchNorm1d(2)
    average = average_of(model, Recipe(ema_decay=0.5))
    assert average is not None and not any(p.requires_grad for p in average.parameters())
    model.running_mean.fill_(9.0)  # type: ignore[union-attr]
    model.num_batches_tracked.fill_(5)  # type: ignore[union-attr]
    update_average(average, model, 0, 1, Recipe(ema_decay=0.5))
    assert average.running_mean.tolist() == [9.0, 9.0]  # type: ignore[union-attr]
    assert int(average.num_batches_tracked) == 5  # type: ignore[arg-type]


def test_mixing_keeps_sums_and_draws_one_kind_a_batch() -> None:
    torch.manual_seed(0)
    x, targets = torch.rand(6, 3, 8, 8), targets_of(torch.arange(6), 6)
    mixer = Mixer(Recipe(mixup=0.2, cutmix=1.0), 6)
    kinds = set()
    for _ in range(20):
        mixed, soft = mixer(x, targets)
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        same = mixed == x
        kinds.add("cutmix" if bool(same.flatten(1).any(1).all()) else "mixup")
    assert kinds == {"cutmix", "mixup"}
    assert Mixer(Recipe(mixup=1.0, mix_chance=0.0), 6)(x, targets)[0] is x
    assert Mixer(Recipe(), 6)(x, targets) == (x, targets)
    assert Mixer(Recipe(mixup=1.0), 6)(x[:1], targets[:1])[0].shape[0] == 1


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_with_an_unknown_label_is_unknown(kind: str) -> None:
    """Nobody can say what half of an unknown label and half of a known one is."""
    torch.manual_seed(0)
    targets = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [float("nan"), 0.0]])
    _, mixed = Mixer(Recipe(**{kind: 1.0}), 2)(torch.rand(3, 3, 8, 8), targets)  # type: ignore[arg-type]
    assert mixed.isnan().tolist() == (targets.isnan() | targets.roll(1, 0).isnan()).tolist()


def test_optimisers_and_their_groups() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    head = {id(p) for p in model[1].parameters()}
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        optimizer = make_optimizer(model, Recipe(optimizer=name, weight_decay=0.1), head)  # type: ignore[arg-type]
        assert type(optimizer) is kind
        assert [len(g["params"]) for g in optimizer.param_groups] == [2, 2]
    assert len(make_optimizer(model, Recipe(), set()).param_groups) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_gets_one_sentence(value: float) -> None:
    check_finite(torch.tensor(1.0), 3)
    with pytest.raises(StateError, match=r"The loss became .* at step 3; the last good checkpoint is kept"):
        check_finite(torch.tensor(value), 3)
