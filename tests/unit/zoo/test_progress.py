"""A bar for calls that may take long."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn

PICTURES = [np.random.default_rng(i).random((16, 16, 3)) for i in range(5)]


def small() -> torchbcos.Classifier:
    torch.manual_seed(0)
    return torchbcos.Classifier(nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool()))


def test_predict_and_explain_show_how_far_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    clf = small()
    shown = clf.predict(PICTURES, batch_size=2, progress=True)
    assert "5 of 5 inputs" in capsys.readouterr().err
    e = clf.explain(iter(PICTURES), batch_size=2, progress=True)  # of unknown length
    assert "5 inputs" in capsys.readouterr().err and len(e) == 5
    assert shown == clf.predict(PICTURES, batch_size=2) and clf.explain(PICTURES, batch_size=2).weights.equal(e.weights)
    said = capsys.readouterr()
    assert said.err == "" and said.out == ""  # unless it is asked for
