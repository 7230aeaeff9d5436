"""Both steps of a two-stage network in one picture."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

import torchbcos
from tests.unit.models.test_two_stage import make, pictures
from torchbcos.viewer import draw_selection


def test_the_picture_shows_the_selection_below_the_panel(tmp_path: Path) -> None:
    x = pictures(1, seed=3)
    model = make(x=x)
    e = torchbcos.explain(model, x, [[1]])
    e.save(tmp_path / "panel.png")
    assert draw_selection(model, e, tmp_path / "both.png") == tmp_path / "both.png"
    with Image.open(tmp_path / "panel.png") as panel, Image.open(tmp_path / "both.png") as both:
        assert both.width >= panel.width and both.height > panel.height + 600


def test_a_selection_of_nothing_is_drawn_and_other_networks_are_left_alone(tmp_path: Path) -> None:
    x = pictures(1)
    model = make(x=x)
    with torch.no_grad():
        model.where.parts.vectors[:-1] += 100
    assert draw_selection(model, torchbcos.explain(model, x, [[0]]), tmp_path / "nothing.png") is not None
    other = torchbcos.create_model("resnet18", width_factor=0.125, num_classes=2).eval()
    y = torch.rand(1, 6, 32, 32)
    assert draw_selection(other, torchbcos.explain(other, y, [[0]]), tmp_path / "other.png") is None
    assert not (tmp_path / "other.png").exists()
