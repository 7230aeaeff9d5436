"""Explanations of surfaces are drawn on a cortex, where there is a template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import torchbcos
from torchbcos.pictures import Cortex
from torchbcos.viewer import cortex, draw_cortex


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Cortex:
    """A sphere for a cortex."""
    points, faces = torchbcos.functional.icosphere(5)
    labels = (points[:, 0] < 0.9).long()
    flat = torch.cat([points[:, 1:], torch.zeros(len(points), 1, dtype=torch.float64)], 1)
    made = Cortex({"inflated": points, "flat": flat}, faces, {"sulc": points[:, 2]}, labels, ("unknown", "all"))
    monkeypatch.setattr(cortex, "_template", lambda hemisphere: made)
    return made


def test_a_surface_is_drawn_on_a_cortex(template: Cortex, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchbcos.create_model("surface_vit_nano", num_classes=2, depth=1).eval()
    e = torchbcos.explain(model, model.example(1), [[0, 1]])
    file = draw_cortex(model, e, tmp_path / "why.png", 1)
    assert file is not None
    colours = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert (abs(colours[..., 0] - colours[..., 2]) > 60).sum() > 500  # red and blue


def test_other_networks_and_meshes_are_drawn_as_ever(template: Cortex, tmp_path: Path) -> None:
    model = torchbcos.create_model("surface_vit_nano", num_classes=2, depth=1, level=3).eval()
    e = torchbcos.explain(model, model.example(1), 0)
    assert draw_cortex(model, e, tmp_path / "a.png") is None and draw_cortex(nn.Identity(), e, tmp_path / "a.png") is None
    assert not list(tmp_path.iterdir())


def test_without_a_template_there_is_no_cortex(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cortex, "_template", lambda hemisphere: None)
    model = torchbcos.create_model("surface_vit_nano", num_classes=2, depth=1).eval()
    assert draw_cortex(model, torchbcos.explain(model, model.example(1), 0), tmp_path / "a.png") is None
