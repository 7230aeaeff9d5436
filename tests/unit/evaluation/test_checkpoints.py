"""Opening the weights that a run keeps: averaged, last and best ones, before the run has a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import torchbcos
from torchbcos._core.errors import InputError, MissingFileError, WeightsError
from torchbcos._core.files import write_json
from torchbcos.evaluation import open_model
from torchbcos.runs import RunFolder
from torchbcos.zoo import card_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run on its way: every number of its last, averaged and best weights is 1, 2 or 3."""
    network = torchbcos.create_model("cifar10_resnet20", num_classes=2)
    run = RunFolder(tmp_path / "run")
    kept = [{key: torch.full_like(value, n) for key, value in network.state_dict().items()} for n in (1, 2, 3)]
    last = {
        f"{prefix}.{key}": value
        for prefix, state in zip(("network", "average"), kept, strict=False)
        for key, value in state.items()
    }
    run.write_checkpoint("last.ckpt", {"torchbcos": {}, "state_dict": last})
    run.write_checkpoint("best.ckpt", {"state": kept[2], "score": 50.0})
    write_json(run.card, card_of(network).to_dict())
    return run


def test_weights_by_name(run: RunFolder) -> None:
    for weights, number in (("last", 1), ("ema", 2), ("best", 3)):
        clf = open_model(run.out, weights=weights, device="cpu")
        assert all(bool((value == number).all()) for value in clf.model.state_dict().values())
        assert not clf.model.training and len(clf.class_names) == 2


def test_what_cannot_be_opened(run: RunFolder, tmp_path: Path) -> None:
    for source, weights, error, message in (
        (run.out, "auto", MissingFileError, "is not finished"),
        (run.out, "first", InputError, "weights is 'auto', 'ema', 'last' or 'best', not 'first'"),
        (tmp_path, "last", MissingFileError, "is no run's folder: last weights are in the checkpoints of one"),
    ):
        with pytest.raises(error, match=message):
            open_model(source, weights=weights)
    run.write_checkpoint("best.ckpt", {"state": {"other": torch.ones(1)}})
    with pytest.raises(WeightsError, match=r"the best weights of .*run' does not belong to this network"):
        open_model(run.out, weights="best")
    run.best.unlink()
    with pytest.raises(MissingFileError, match=r"There is no checkpoint .*best\.ckpt"):
        open_model(run.out, weights="best")
