"""The official localisation analysis as a black box: the same network, the same pictures, the same score of every cell.

It needs the official package with its folder `interpretability`, which the wheel lacks: a clone of the repository on PYTHONPATH.
And what CoDA-Nets published, where TORCHBCOS_CODA names the file (its folder resources/results/9L-S-CoDA-SQ-1000/
localisation_analysis/epoch_200/500_3x3/Ours/default/localisation_metric.np).
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchbcos
from tests.parity import calibrate
from torchbcos.metrics import PROTOCOLS, choose_grids, compose_grids, grid_pointing, own_cells


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Their module, with a small configuration of its own; it may call `.cuda()`."""
    pytest.importorskip("bcos", reason="the official package is not installed")
    module = pytest.importorskip("interpretability.analyses.localisation", reason="no clone of B-cos-v2 on PYTHONPATH")
    monkeypatch.setattr(Tensor, "cuda", lambda self, *args, **kwargs: self)
    monkeypatch.setitem(module.configs, "3_2x2", {"n_imgs": 4, "sample_size": 3, "do_rescale": False, "conf_thresh": 0.0})
    return module


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self.x, self.labels = x, labels.tolist()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], self.labels[index]


class Experiment:
    """As much of theirs as the analysis asks for."""

    def __init__(self, model: torch.nn.Module, data: Pictures, folder: Path) -> None:
        self.model, self.data, self.save_dir, self.config = model, data, folder, {"data": {}}

    def load_trained_model(self, **_: Any) -> dict[str, Any]:
        return {"model": self.model, "ckpt": None}

    def get_datamodule(self, **_: Any) -> Any:
        loader = torch.utils.data.DataLoader(self.data, batch_size=16)
        return SimpleNamespace(NUM_CLASSES=1000, batch_size=16, setup=lambda stage: None, test_dataloader=lambda: loader)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("smooth", [1, 15])
def test_every_cell_has_the_official_score(official: Any, tmp_path: Path, smooth: int) -> None:
    """Random weights, calibrated norms; choice, grids, maps and scores are theirs, and ours by the protocol's arguments."""
    torch.manual_seed(0)
    theirs = importlib.import_module("bcos.models.pretrained").resnet18(pretrained=False)
    rgb = F.interpolate(torch.rand(80, 3, 4, 4), (64, 64), mode="bilinear")
    x = torch.cat([rgb, 1 - rgb], 1)
    calibrate(theirs, x[:32])
    with torch.no_grad():
        logits: Tensor = theirs(x)
    labels = logits.argmax(1)
    labels[::7] = (labels[::7] + 1) % 1000  # some are wrong
    analyser = official.LocalisationAnalyser(
        Experiment(theirs, Pictures(x, labels), tmp_path), "3_2x2", explainer_name="Ours", explainer_config="default",
        smooth=smooth, reload="last", ema=False, batch_size=16,
    )  # fmt: skip
    expected = analyser.analysis()["localisation_metric"]

    arguments = PROTOCOLS["bcos-v2"].arguments
    torch.save(theirs.state_dict(), tmp_path / "resnet_18-68b4160fff.pth")
    ours = torchbcos.create_model("resnet18", weights=tmp_path / "resnet_18-68b4160fff.pth").eval()
    chosen = choose_grids(logits, labels, **{**arguments["choose_grids"], "confidence": 0.0, "limit": 3})
    grids = compose_grids(x[chosen], **arguments["compose_grids"])
    maps = torchbcos.explain(ours, grids, labels[chosen]).contributions
    cells = own_cells(**arguments["own_cells"]).repeat(3)
    options = {**arguments["grid_pointing"], "smooth": smooth}
    found = grid_pointing(maps.flatten(0, 1), cells, **options).nan_to_num(0.0)
    print(f"\nsmooth {smooth}: official {np.round(expected, 5)}, largest difference {np.abs(found.numpy() - expected).max():.1e}")
    assert expected.shape == (12,)
    assert np.ptp(expected) > 0.01  # scores differ: something was compared
    assert np.abs(found.numpy() - expected).max() < 1e-4


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_the_official_choice_picture_by_picture(official: Any) -> None:
    """Ten classes with 384 pictures in the official list: 71 grids, in 22 of which classes met; ours makes 96 of 384."""
    torch.manual_seed(0)
    labels = torch.arange(10).repeat_interleave(42)
    logits = torch.full((420, 10), -5.0).scatter(1, labels[:, None], torch.rand(420, 1))
    best = logits.max(1).values
    analyser = object.__new__(official.LocalisationAnalyser)
    analyser.config = {"conf_thresh": 0.5, "n_imgs": 4}
    analyser.sorted_confs = {
        c: sorted(((i, float(best[i])) for i in range(420) if labels[i] == c), key=lambda one: one[1], reverse=True)
        for c in range(10)
    }
    listed, data, offset, expected = analyser.get_sorted_indices(), Pictures(torch.arange(420.0).view(-1, 1, 1, 1), labels), 0, []
    while True:
        try:
            image, _, offset = official.LocalisationAnalyser.make_multi_image(4, data, offset=offset, fixed_indices=listed)
        except IndexError:
            break
        expected.append(image[0, 0].T.flatten().long().tolist())  # column by column
    found = choose_grids(logits, labels, 2, legacy=True)
    print(f"\nofficial list of {len(listed)}: {len(expected)} grids; ours of as many: {len(listed) // 4}")
    assert len(expected) > 50
    assert found.tolist() == expected
    used = torch.tensor(sorted(listed))
    assert len(choose_grids(logits[used], labels[used], 2)) == len(listed) // 4


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_scores_of_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attribution-Evaluation (Rao et al. 2022), a clone of it on PYTHONPATH; of its packages it needs torch alone here."""
    for name in ("seaborn", "pandas"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = pytest.importorskip("attribution_evaluation.evaluation.localization", reason="no clone on PYTHONPATH")
    maps = torch.randn(6, 9, 1, 63, 63)
    maps[0, 0] = -maps[0, 0].abs()
    expected = module.get_localization_score(maps, img_dims=(21, 21), scale=3).view(9, 6).T
    found = grid_pointing(maps.flatten(0, 2), torch.arange(9).repeat(6), n=3).view(6, 9)
    assert int(found.isnan().sum()) == 1
    torch.testing.assert_close(found.nan_to_num(0.0), expected)


CODA = os.environ.get("TORCHBCOS_CODA")


@pytest.mark.skipif(not CODA, reason="TORCHBCOS_CODA names no file of published scores")
def test_the_published_scores_of_coda_nets() -> None:
    """9L-S-CoDA-SQ-1000, 500 grids of 3 x 3: the percentiles that metrics of ours stand beside."""
    values = torch.from_numpy(np.loadtxt(str(CODA)))
    assert values.shape == (4500,)
    report = PROTOCOLS["coda"].report(values)
    assert [round(report[name], 4) for name in ("25 %", "50 %", "75 %", "100 %")] == [0.8797, 0.9375, 0.9688, 0.9978]
