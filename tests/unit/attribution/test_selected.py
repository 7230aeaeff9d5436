"""Other selections: each number is the logit that the network gives for that selection."""

from __future__ import annotations

import pytest
import torch

import torchbcos
from tests.unit.models.test_two_stage import make, pictures
from torchbcos.attribution import moved_selection


@torch.no_grad()
def test_each_number_is_what_the_network_says_of_that_selection() -> None:
    x = pictures(1, seed=3)
    model = make(x=x)
    moved = moved_selection(model, x, 1, reach=1, batch_size=5)
    own = model.selection(x)
    assert torch.equal(moved.selection, own[0])
    assert moved.value == pytest.approx(float(model(x)[0, 1]), abs=1e-12)
    assert float(moved.by_shift[1, 1]) == pytest.approx(moved.value, abs=1e-12)
    assert float(moved.by_size[int(own.sum())]) == pytest.approx(moved.value, abs=1e-12)
    nothing, everything = torch.zeros_like(own), torch.ones_like(own)
    assert float(moved.by_size[0]) == pytest.approx(float(model.look(x, nothing)[0, 1]), abs=1e-12)
    assert float(moved.by_size[-1]) == pytest.approx(float(model.look(x, everything)[0, 1]), abs=1e-12)
    down = torch.zeros_like(own)
    down[:, 1:, :-1] = own[:, :-1, 1:]  # one down and one to the left
    assert float(moved.by_shift[2, 0]) == pytest.approx(float(model.look(x, down)[0, 1]), abs=1e-12)
    for k in range(2):
        wanted = model.look(x, model.selection(x, keep=[1 - k]))[0, 1]
        assert float(moved.without_part[k]) == pytest.approx(float(wanted), abs=1e-12)
        assert torch.equal(moved.parts == k, model.selection(x, keep=[k])[0])
    assert 0 <= moved.swing <= float(moved.by_shift.max() - moved.by_shift.min())


def test_other_networks_and_several_pictures_are_refused() -> None:
    model = make()
    with pytest.raises(torchbcos.BcosError, match="one picture"):
        moved_selection(model, pictures(2), 0)
    with pytest.raises(torchbcos.BcosError, match="target must be from 0 to 2"):
        moved_selection(model, pictures(1), 3)
    with pytest.raises(torchbcos.BcosError, match="two-stage network"):
        moved_selection(torchbcos.create_model("resnet18", width_factor=0.125), pictures(1), 0)
