"""What is watched while a network trains: alignment against its definition, and numbers that reach the logs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.unit.training.data import squares, tiny
from torchbcos import nn as bnn
from torchbcos.explanation import explain
from torchbcos.runs import History
from torchbcos.training import train
from torchbcos.training.watch import alignment, log_explanations


@given(
    b=st.sampled_from([1.0, 1.5, 2.0, 3.0]), max_out=st.integers(1, 2), stride=st.integers(1, 2), padding=st.integers(0, 1),
    groups=st.integers(1, 2),
)  # fmt: skip
def test_alignment_is_the_mean_cosine(b: float, max_out: int, stride: int, padding: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = bnn.BcosConv2d(4, 6, 3, stride, padding, groups=groups, b=b, max_out=max_out).double()
    x = torch.rand(2, 4, 7, 6, dtype=torch.float64)
    found = alignment(nn.Sequential(layer), x)["0"]
    columns = F.unfold(x, 3, padding=padding, stride=stride).reshape(2, groups, 4 // groups * 9, -1)
    filters = layer.weight.flatten(1).reshape(groups, -1, 4 // groups * 9)
    filters = filters / filters.norm(dim=2, keepdim=True)
    dots = torch.einsum("gof,ngfl->ngol", filters, columns)
    cosines = dots / columns.norm(dim=2).unsqueeze(2)
    winners = cosines.flatten(1, 2).reshape(2, -1, max_out, cosines.shape[-1]).amax(2).abs()
    assert found == pytest.approx(float(winners.mean().detach()), rel=1e-4)


def test_alignment_of_linear_layers_and_zero_inputs() -> None:
    torch.manual_seed(0)
    layer, x = bnn.BcosLinear(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    expected = F.cosine_similarity(x[:, None], layer.weight[None], dim=2).abs().mean()
    assert alignment(nn.Sequential(layer), x)["0"] == pytest.approx(float(expected.detach()), rel=1e-6)
    assert alignment(nn.Sequential(layer), torch.zeros(2, 5, dtype=torch.float64))["0"] == 0
    assert not layer._forward_hooks


class Recorder:
    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.pictures: dict[str, torch.Tensor] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.numbers[name] = value

    def add_image(self, name: str, picture: torch.Tensor, step: int) -> None:
        self.pictures[name] = picture


def test_explanations_and_numbers_are_logged() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(bnn.BcosConv2d(6, 4, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(4, 3)).train()
    x, recorder = torch.rand(3, 6, 16, 16), Recorder()
    found = log_explanations(recorder, model, x, torch.tensor([0, 1, 2]), 5)
    assert model.training
    assert abs(found["watch/residual"]) < 1e-5 and found["watch/share"] == pytest.approx(1, abs=1e-4)
    assert 0 < found["watch/alignment"] < 1 and recorder.numbers == found
    picture = recorder.pictures["watch/explanations"]
    assert picture.shape == (3, 32, 48) and 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_a_run_watches(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 8)
    train(tiny(watch_every=2, epochs=1), data, tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    text = (tmp_path / "run" / "history.csv").read_text()
    assert "watch/alignment" in text.splitlines()[0]
    events = b"".join(f.read_bytes() for f in (tmp_path / "run" / "tensorboard").glob("events*"))
    assert b"watch/explanations" in events and b"alignment/" in events


def test_history_drops_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    history = History(tmp_path / "h.csv", 0)
    for step in (2, 4, 6):
        history.add({"step": step, "loss": step / 3})
    again = History(tmp_path / "h.csv", 4)
    again.add({"step": 5, "extra": 1.5})
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines == ["step,loss,extra", "2,0.666667,", "4,1.33333,", "5,,1.5"]


def test_what_cannot_be_explained_is_not_watched_and_training_goes_on() -> None:
    x, recorder = torch.rand(2, 6, 8, 8), Recorder()
    for factor in (float("nan"), 1e25):
        model = nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool(), bnn.BcosLinear(4, 3)).train()
        with torch.no_grad():
            model[0].weight.mul_(factor)  # type: ignore[union-attr, operator]
        assert log_explanations(recorder, model, x, torch.tensor([0, 1]), 1) == {} and model.training
    model = nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool(), bnn.BcosLinear(4, 3)).eval()
    found = log_explanations(recorder, model, x * 0, torch.tensor([0, 1]), 1)  # a share of nothing
    assert found["watch/share"] != found["watch/share"]
    assert recorder.numbers and "watch/share" not in recorder.numbers


def test_magnitude_and_localisation_are_of_the_metrics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(bnn.BcosConv2d(6, 4, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(4, 3))
    x, y = torch.rand(5, 6, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    found = log_explanations(None, model, x, y, 0)
    e = explain(model, x, y)
    sums = e.contributions.abs().flatten(1).sum(1) / e.values[:, 0].abs()
    assert found["watch/magnitude"] == pytest.approx(float(sums.median()), rel=1e-5)
    top, bottom = torch.cat([x[0], x[1]], 2), torch.cat([x[2], x[3]], 2)
    grid = torch.cat([top, bottom], 1)[None]
    scores = []
    for cell in range(4):
        positive = F.avg_pool2d(explain(model, grid, int(y[cell])).contributions, 1, 1)[0, 0].clamp_min(0)
        row, column = divmod(cell, 2)
        scores.append(float(positive[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].sum() / positive.sum()))
    assert found["watch/localisation"] == pytest.approx(sum(scores) / 4, rel=1e-4)
    assert "watch/localisation" not in log_explanations(None, model, x[:3], y[:3], 0)
